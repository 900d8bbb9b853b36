"""The engine, the image, its base and its code; CONTAINER of Slurm's jobs; pyxis."""

import json

import pytest

from omr import settings
from omr.containers.run import code_id
from omr.reports.doctor import containers

from .kit import asked, held, row, stub

PINS = settings.pins()
LABELS = {
    "omr.code": code_id(),
    "org.opencontainers.image.base.name": PINS["TRAIN_BASE"],
    "org.opencontainers.image.base.digest": PINS["TRAIN_BASE_DIGEST"],
}
ENGINE = """#!/bin/sh
case "$1" in
info) {info} ;;
image) {image} ;;
esac
"""


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """An engine that says what the test wants of itself and of an image's labels."""
    monkeypatch.setenv("WORKSPACE", str(tmp_path / "w"))
    for name in ("IMAGE", "MOUNTS", "CONTAINER", "ENGINE", "MODEL", "TRAIN_BASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODEL", "7b")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def looked_at(labels=LABELS, info="echo '{}'", gpus=False):
        image = f"echo '{json.dumps(labels)}'" if labels is not None else "exit 1"
        stub(tmp_path / "bin", "docker", ENGINE.format(info=info, image=image))
        return containers.docker(asked("train", tmp_path / "w"), gpus)

    return looked_at


def test_an_image_as_it_should_be(engine):
    found = engine()
    assert [check.state for check in found] == ["ok"] * 4
    held(row(found, "image"), "ok", "omr:train, with the code of this checkout")
    held(row(found, "image's base"), "ok", "as pinned")


@pytest.mark.parametrize(
    ("name", "given", "state", "said", "advice"),
    [
        ("engine", {"info": "echo no daemon >&2; exit 1"}, "fix", "is not running (no daemon)", "start it"),
        (
            "engine",
            {"info": "echo permission denied >&2; exit 1"},
            "fix",
            "may not use",
            "usermod -aG docker",
        ),
        ("engine's GPUs", {"gpus": True}, "fix", "none", "nvidia-container-toolkit"),
        ("image", {"labels": None}, "fix", "omr:train is not on this machine", "run make image STAGE=train"),
        (
            "image",
            {"labels": {**LABELS, "omr.code": "0"}},
            "fix",
            "another state of the code",
            "run make image",
        ),
        (
            "image",
            {"labels": {**LABELS, "org.opencontainers.image.base.digest": "sha256:0"}},
            "fix",
            "docker/pins.env has another",
            "run make image",
        ),
        (
            "image's base",
            {"labels": {**LABELS, "org.opencontainers.image.base.name": "mine"}},
            "warn",
            "not checked",
            "unset TRAIN_BASE",
        ),
    ],
)
def test_an_image_that_would_not_do(engine, name, given, state, said, advice):
    held(row(engine(**given), name), state, said, advice)


def test_no_engine_and_a_mount_that_is_not_there(engine, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("MOUNTS", "/nowhere:/data")
    found = containers.docker(asked("train", tmp_path / "w"), False)
    held(row(found, "engine"), "fix", "neither docker nor podman", "install one")
    held(row(found, "mounts"), "fix", "/nowhere is not there", "correct it")


@pytest.mark.parametrize(
    ("content", "state", "said", "advice"),
    [
        (b"hsqs....", "ok", "mounted", ""),
        (b"<html>", "fix", "is no squashfs image", "make sqsh"),
        (None, "fix", "there is no such image", "make sqsh"),
    ],
)
def test_a_sqsh_file(tmp_path, content, state, said, advice):
    path = tmp_path / "omr.sqsh"
    if content:
        path.write_bytes(content)
    [check] = containers.look("image", containers.sqsh, str(path))
    held(check, state, said, advice)


def test_an_image_of_a_registry_is_fetched_by_every_node():
    held(containers.sqsh("nvcr.io/a/b:1"), "warn", "every node fetches it", "make sqsh")


@pytest.mark.parametrize(
    ("says", "wanted", "state"),
    [("  --container-image=…", True, "ok"), ("", True, "fix"), ("", False, "ok")],
)
def test_pyxis(tmp_path, monkeypatch, says, wanted, state):
    stub(tmp_path / "bin", "srun", says)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    held(containers.pyxis(wanted), state, "", "unset CONTAINER" if state == "fix" else "")


def test_jobs_without_a_container(tmp_path, monkeypatch):
    monkeypatch.delenv("CONTAINER", raising=False)
    monkeypatch.setenv("NEMO_RL", str(tmp_path / "none"))
    held(row(containers.slurm(asked("train", tmp_path)), "image"), "warn", "none", "set CONTAINER")
    monkeypatch.setenv("NEMO_RL", str(tmp_path))
    held(row(containers.slurm(asked("train", tmp_path)), "image"), "ok", "this machine's environment")
