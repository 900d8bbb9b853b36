"""What is proved before a run trains: each lack is one OmrError that names the file and the next step."""

import os
from pathlib import Path

import pytest

from omr import files, manifest, recipe
from omr.errors import OmrError
from omr.run.frozen import BaseModel, TrainingData
from omr.training import preflight

RUN = recipe.run("tiny")


@pytest.fixture
def data(tmp_path):
    """A finished data file, larger than what its fingerprint samples."""
    path = tmp_path / "d.jsonl"
    path.write_bytes(os.urandom(manifest.BLOCKS * manifest.BLOCK * 2))
    facts = {"sha256": files.sha256(path), "size": path.stat().st_size, "rows": 1}
    manifest.write(path, {}, **facts)
    return TrainingData(path, **facts)


def change(path, at, keep_time=True):
    """Flip a byte; `keep_time`: as a failing disk does."""
    info = path.stat()
    with path.open("r+b") as handle:
        handle.seek(at)
        byte = handle.read(1)
        handle.seek(at)
        handle.write(bytes([byte[0] ^ 1]))
    if keep_time:
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def test_data_that_stands_is_proved_by_its_blocks(data):
    assert preflight.data(data, None, verify=False) == preflight.WHOLE
    seen = manifest.fingerprint(data.path)
    assert preflight.data(data, seen, verify=False) == "size, time and sampled blocks"
    assert preflight.data(data, seen, verify=True) == preflight.WHOLE
    os.utime(data.path)  # touched, not changed
    assert preflight.data(data, seen, verify=False) == preflight.WHOLE


BETWEEN = manifest.BLOCK + 1  # the first byte after the first block that is no block's


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda path: path.unlink(), "the training data is gone"),
        (lambda path: os.truncate(path, 5), "has 5 bytes, the run was asked for with"),
        (lambda path: change(path, 0), "its content changed after the run was submitted"),
        (lambda path: change(path, BETWEEN, keep_time=False), "its sha256 is not the one in its manifest"),
        (lambda path: manifest.write(path, {}, sha256="0"), "its manifest is not the one"),
        (lambda path: manifest.manifest_of(path).unlink(), "its manifest is not the one"),
    ],
)
def test_data_that_is_not_what_was_asked_for(data, harm, told):
    seen = manifest.fingerprint(data.path)
    harm(data.path)
    with pytest.raises(OmrError) as refused:
        preflight.data(data, seen, verify=False)
    assert str(refused.value).startswith(f"{data.path}: ") and told in str(refused.value)


def test_a_flipped_bit_between_the_blocks_is_found_by_the_whole_hash_alone(data):
    seen = manifest.fingerprint(data.path)
    change(data.path, BETWEEN)
    assert preflight.data(data, seen, verify=False) != preflight.WHOLE
    with pytest.raises(OmrError, match="its sha256 is not the one in its manifest"):
        preflight.data(data, seen, verify=True)


def test_a_file_that_was_written_to_after_its_manifest_has_no_fingerprint(data):
    assert manifest.untouched(data.path) == manifest.fingerprint(data.path)
    later = manifest.manifest_of(data.path).stat().st_mtime + 10
    os.utime(data.path, (later, later))
    assert manifest.untouched(data.path) is None


@pytest.fixture
def base(tmp_path, monkeypatch):
    """A base model of three files; whether they agree with each other is the passport's question."""
    folder = tmp_path / "base"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "README.md"):
        (folder / name).write_text(f"of {name}")
    listed = {p.name: {"size": p.stat().st_size, "sha256": files.sha256(p)} for p in folder.iterdir()}
    manifest.write(folder, {}, files=listed, seen=manifest.fingerprints(folder))
    asked = []
    monkeypatch.setattr(preflight.passport, "check", lambda *given: asked.append(given))
    return BaseModel(folder, "0"), asked


def test_a_base_that_stands_is_asked_for_its_passport(base):
    wanted, asked = base
    (wanted.path / "README.md").write_text("a card may be written on")
    preflight.base(wanted, RUN)
    preflight.base(wanted, recipe.run("tiny", 2))
    assert asked == [(wanted.path, RUN.model, "patched"), (wanted.path, RUN.model, "final")]


@pytest.mark.parametrize(
    ("name", "harm", "told"),
    [
        ("config.json", lambda path: path.write_text("of config.jsom"), "config.json: is not the file that"),
        ("config.json", lambda path: path.unlink(), "config.json: is not the file that"),
        ("model.safetensors", lambda path: os.truncate(path, 3), "model.safetensors: is not the file that"),
        (
            "model.safetensors",
            lambda path: path.write_text("of model.safetensorz"),
            "model.safetensors: is not the file that",
        ),
        ("manifest.json", lambda path: path.unlink(), "the base model is gone"),
    ],
)
def test_a_base_that_is_not_what_was_made(base, name, harm, told):
    wanted, asked = base
    harm(wanted.path / name)
    with pytest.raises(OmrError, match=told):
        preflight.base(wanted, RUN)
    assert not asked


def test_the_disk_has_room_for_two_checkpoints(tmp_path, monkeypatch):
    preflight.disk(tmp_path, RUN.model)
    model = recipe.model("7b")
    need = 2 * int(model.parameters * preflight.CHECKPOINT_BYTES)
    usage = preflight.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: usage._replace(free=need - 1))
    with pytest.raises(OmrError, match=r"two checkpoints of 7b need 212\.8 GB; make room"):
        preflight.disk(tmp_path, model)


@pytest.mark.parametrize(
    ("text", "mode", "refused"),
    [
        ("HF_TOKEN=x\n", 0o600, False),
        ("HF_TOKEN=x\n", 0o640, True),
        ("ACCOUNT=x\n", 0o644, False),
        (None, None, False),
    ],
)
def test_secrets_are_for_their_owner_alone(tmp_path, monkeypatch, text, mode, refused):
    path = tmp_path / "env"
    monkeypatch.setenv("OMR_ENV_FILE", str(path))
    if text:
        path.write_text(text)
        path.chmod(mode)
    if not refused:
        preflight.secrets_file()
        return
    with pytest.raises(OmrError, match=f"holds HF_TOKEN and can be read by others; run chmod 600 {path}"):
        preflight.secrets_file()


def test_an_image_that_is_a_path_is_there(tmp_path):
    (tmp_path / "train.sqsh").touch()
    for container in (None, "nvcr.io/nvidia/nemo-rl:v0.6.0", str(tmp_path / "train.sqsh")):
        preflight.image(container)
    with pytest.raises(OmrError, match="there is no such image; make sqsh writes it"):
        preflight.image(str(tmp_path / "other.sqsh"))


def test_the_canary_holds_what_every_node_is_to_read(tmp_path):
    assert preflight.canary(tmp_path, "word").read_text() == "word\n"
    assert preflight.canary(tmp_path, "other") == Path(tmp_path, ".canary")
