"""docker/run and `make image` against an engine that only writes down what it is asked."""

import dataclasses
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from omr import settings
from omr.containers import build_site, image, mounts
from omr.containers import run as container
from omr.errors import OmrError, RequestError
from omr.settings import ROOT

DOCKER_INFO = {"Runtimes": {"runc": {}, "nvidia": {}}, "SecurityOptions": ["name=seccomp"]}
PODMAN_INFO = {"host": {"security": {"rootless": True}}}


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """A `docker` on PATH that answers `info` and `image inspect`, and writes every `run` to a file."""
    folder = tmp_path / "engine"
    folder.mkdir()
    script = folder / "docker"
    script.write_text(f"""#!{sys.executable}
import json, os, sys
folder = {str(folder)!r}
def said(name):
    with open(os.path.join(folder, name)) as handle:
        return handle.read()
word = sys.argv[1]
if word == "info":
    print(said("info"), end="")
    sys.stderr.write(said("info.err"))
    sys.exit(int(said("info.rc")))
if word == "image":
    if not os.path.exists(os.path.join(folder, "labels")):
        sys.exit(1)
    print(said("labels"))
if word == "run":
    with open(os.path.join(folder, "ran"), "w") as handle:
        json.dump({{"argv": sys.argv[1:], "env": dict(os.environ)}}, handle)
    sys.exit(int(said("run.rc")))
""")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    for name, text in {
        "info": json.dumps(DOCKER_INFO),
        "info.err": "",
        "info.rc": "0",
        "run.rc": "0",
        "labels": json.dumps({"omr.code": container.code_id()}),
    }.items():
        (folder / name).write_text(text)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def run(*words, cwd=ROOT, **environ):
    """docker/run with RUNNER=docker and nothing of this machine's own .env."""
    plain = {k: v for k, v in os.environ.items() if k not in settings.SETTINGS}
    environ = {**plain, "RUNNER": "docker", "OMR_ENV_FILE": "/dev/null", **environ}
    environ = {k: v for k, v in environ.items() if v is not None}
    return subprocess.run(
        [ROOT / "docker/run", *words], env=environ, capture_output=True, text=True, cwd=cwd, timeout=60
    )


def ran(engine):
    return json.loads((engine / "ran").read_text())


@pytest.mark.slow
def test_the_whole_command_line(engine, tmp_path):
    space = tmp_path / 'my work, "here"'
    raw = tmp_path / "raw"
    raw.mkdir()
    done = run(
        "data", "bin/data.py", "--seed", "3", WORKSPACE=str(space), RAW=str(raw), HF_HOME=str(tmp_path / "hf")
    )
    assert (done.returncode, done.stderr) == (0, "")
    argv = ran(engine)["argv"]
    title = argv.pop(argv.index("--name") + 1)
    assert title.startswith("omr-data-")
    groups = [f"--group-add={g}" for g in sorted(os.getgroups()) if g != os.getgid()]
    if Path("/sys/fs/selinux/enforce").exists():
        argv.remove("--security-opt"), argv.remove("label=disable")
    quoted = str(space).replace('"', '""')
    assert argv == [
        *("run", "--rm", "--name", "--init", "--network=host", "--ipc=host", "--pids-limit=-1"),
        *("--security-opt", "no-new-privileges", "--user", f"{os.getuid()}:{os.getgid()}", *groups),
        *("--mount", f'type=bind,"source={quoted}","target={quoted}"'),
        *("--mount", f"type=bind,source={tmp_path}/hf,target={tmp_path}/hf"),
        *("--mount", f"type=bind,source={raw},target={raw},readonly"),
        *("--env", "HF_HOME", "--env", "RAW", "--env", "RUNNER", "--env", "WORKSPACE"),
        *("omr:tools", "/opt/omr/venv/bin/python", "/opt/omr/bin/data.py", "--seed", "3"),
    ]
    assert space.is_dir()


@pytest.mark.parametrize(
    ("script", "words", "environ", "opened"),
    [
        ("bin/eval.py", [], {}, False),
        ("bin/eval.py", [], {"MODE": "cot"}, False),
        ("bin/eval.py", [], {"MODE": "tir"}, True),
        ("bin/eval.py", ["--mode", "cot,tir,genselect"], {}, True),
        ("bin/eval.py", [], {"MODE": "tir", "SANDBOX": "bwrap"}, True),
        ("bin/eval.py", [], {"MODE": "tir", "SANDBOX": "none"}, False),
        ("bin/eval.py", ["--sandbox", "none"], {"MODE": "tir"}, False),
        ("bin/eval.py", ["--sandbox=bwrap"], {"MODE": "genselect", "SANDBOX": "none"}, True),
        ("bin/train.py", [], {"MODE": "tir"}, False),
    ],
)
def test_a_container_is_opened_for_bubblewrap_where_a_models_code_runs(script, words, environ, opened):
    assert container.runs_models_code(script, words, environ) is opened


@pytest.mark.parametrize("apparmor", [True, False])
def test_what_bubblewrap_needs_of_a_container(apparmor, tmp_path, monkeypatch):
    monkeypatch.setattr(container, "APPARMOR", tmp_path if apparmor else tmp_path / "none")
    plain = container.argv(container.Engine("docker"), container.Start("omr:tools", ["x"], [], []))
    opened = container.argv(
        container.Engine("docker"), container.Start("omr:tools", ["x"], [], [], sandbox=True)
    )
    added = [word for word in opened if word not in plain]
    assert added == [
        "seccomp=unconfined",
        "systempaths=unconfined",
        *(["apparmor=unconfined"] if apparmor else []),
    ]
    assert "no-new-privileges" in opened


@pytest.mark.slow
def test_a_folder_of_our_name_where_the_caller_stands_is_not_ours(engine, tmp_path):
    (tmp_path / "omr").mkdir()
    (tmp_path / "omr" / "__init__.py").write_text("raise SystemExit('not ours')")
    assert run("data", "bin/data.py", cwd=tmp_path, WORKSPACE=str(tmp_path)).returncode == 0


def test_an_engines_exit_code_is_ours(engine, tmp_path):
    (engine / "run.rc").write_text("7")
    assert run("data", "bin/data.py", WORKSPACE=str(tmp_path)).returncode == 7


def test_no_value_of_env_file_leaves_it(engine, tmp_path):
    file = tmp_path / "my.env"
    file.write_text("HF_TOKEN=hf_secret\nMEMORY=2G\nRAW=raw\n")
    (tmp_path / "raw").mkdir()
    done = run(
        "data", "bin/data.py", OMR_ENV_FILE=str(file), cwd=tmp_path, WORKSPACE="ws", WANDB_API_KEY="wb_secret"
    )
    assert done.returncode == 0, done.stderr
    seen = ran(engine)
    line = " ".join(seen["argv"])
    assert "hf_secret" not in line and "wb_secret" not in line and "2G" not in line
    # The container reads the file itself; the engine's own process does not even know the token.
    assert f"source={file},target={file},readonly" in line
    assert "HF_TOKEN" not in seen["env"] and seen["env"]["OMR_ENV_FILE"] == str(file)
    names = [b for a, b in zip(seen["argv"], seen["argv"][1:], strict=False) if a == "--env"]
    assert names == ["HF_HOME", "RAW", "RUNNER", "WANDB_API_KEY", "WORKSPACE", "OMR_ENV_FILE"]
    # A relative path means the same file inside.
    assert seen["env"]["RAW"] == str(tmp_path / "raw") and seen["env"]["WORKSPACE"] == str(tmp_path / "ws")


@pytest.mark.parametrize(
    ("name", "value", "goes"),
    [
        ("NCCL_DEBUG", "INFO", True),
        ("https_proxy", "http://localhost:3128", True),
        ("CUDA_VISIBLE_DEVICES", "0,1", True),
        ("CUDA_HOME", "/usr/local/cuda-12", False),  # a path of this machine that the container has not
        ("PIP_INDEX_URL", "https://mirror.example.org", False),
        ("PYTHON", "/usr/bin/python3", False),
        ("EDITOR", "vi", False),
    ],
)
def test_which_names_go_in(name, value, goes):
    assert (name in container.names({name: value}, {name: value}, [])) is goes


TROUBLE = [
    (
        {"info.rc": "1", "info.err": "Cannot connect to the Docker daemon at unix:///x. Is it running?"},
        "systemctl start",
    ),
    ({"info": json.dumps({"ServerErrors": ["Cannot connect to the Docker daemon"]})}, "systemctl start"),
    (
        {"info.rc": "1", "info.err": "permission denied while trying to connect to the socket"},
        "usermod -aG docker",
    ),
    ({"labels": None}, "run make image STAGE=tools"),
    (
        {"labels": '{"omr.code": "of another day"}'},
        "another state of the code than this checkout; run make image",
    ),
    ({"labels": "null"}, "another state of the code"),
]


@pytest.mark.parametrize(("answers", "expected"), TROUBLE)
@pytest.mark.slow
def test_an_engine_in_trouble_is_one_line(engine, tmp_path, answers, expected):
    for name, text in answers.items():
        (engine / name).unlink() if text is None else (engine / name).write_text(text)
    done = run("data", "bin/data.py", WORKSPACE=str(tmp_path / "ws"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and expected in done.stderr
    assert not (tmp_path / "ws").exists() and not (engine / "ran").exists()


def test_no_engine_at_all(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RequestError, match="neither docker nor podman is installed"):
        container.detect()


BAD_PATHS = [
    ({"RAW": "/nowhere/raw"}, "RAW=/nowhere/raw is not there"),
    ({"CA_BUNDLE": "/nowhere/ca.pem"}, "CA_BUNDLE=/nowhere/ca.pem is not there"),
    ({"MOUNTS": "data:/data"}, "MOUNTS: data:/data is not /from:/to"),
    ({"MOUNTS": "/nowhere:/data"}, "MOUNTS: /nowhere is not there"),
    ({"MOUNTS": "/tmp:/data:rx"}, "is not /from:/to"),
    ({"WORKSPACE": "/dev/null/omr"}, "WORKSPACE=/dev/null/omr is not writable"),
]


@pytest.mark.parametrize(("environ", "expected"), BAD_PATHS)
@pytest.mark.slow
def test_a_path_that_cannot_be_mounted_is_one_line(engine, tmp_path, environ, expected):
    done = run("data", "bin/data.py", **{"WORKSPACE": str(tmp_path / "ws"), **environ})
    assert done.returncode == 2 and expected in done.stderr and done.stderr.count("\n") == 1


GPU = ("--gpus", "all")


@pytest.mark.parametrize(
    ("given", "expected", "absent"),
    [
        ({"podman": True, "rootless": True}, ["--userns=keep-id"], ["--user", "--init", "--ulimit"]),
        ({"rootless": True, "gpus": GPU}, ["--gpus"], ["--user", "--ulimit"]),
        ({"gpus": GPU}, ["--gpus", "--ulimit", "memlock=-1", "stack=67108864", "--user"], []),
        ({}, ["--user"], ["--gpus", "--ulimit"]),
    ],
)
def test_kinds_of_engines(given, expected, absent, monkeypatch):
    monkeypatch.setattr(container.shutil, "which", lambda name: None)
    line = container.argv(
        container.Engine("docker", **given),
        container.Start("omr:tools", ["x"], mounts=[], names=[], gpus=True, title="t"),
    )
    assert set(expected) <= set(line) and not set(absent) & set(line)


def test_gpus_and_terminal_only_where_asked_for():
    given = container.Engine("docker", gpus=GPU)
    plain = container.Start("i", ["x"], mounts=[], names=[], gpus=False)
    line = container.argv(given, plain)
    assert not {"--gpus", "--ulimit", "--tty", "--interactive"} & set(line)
    assert {"--tty", "--interactive"} <= set(container.argv(given, dataclasses.replace(plain, terminal=True)))


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (DOCKER_INFO, (False, False)),
        (PODMAN_INFO, (True, True)),
        ({"SecurityOptions": ["name=rootless"]}, (False, True)),
    ],
)
def test_what_the_engine_is(engine, info, expected):
    (engine / "info").write_text(json.dumps(info))
    found = container.detect()
    assert (found.podman, found.rootless) == expected


def test_a_server_in_a_container_is_reached_from_the_host(engine, tmp_path):
    done = run("train", "bin/serve.py", MODEL="tiny", WORKSPACE=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "--network=host" in ran(engine)["argv"]


def test_links_out_of_an_input_are_followed(tmp_path):
    """A snapshot in the hub's cache links to ../../blobs, under which its files have other names."""
    blobs, snapshot = tmp_path / "hub/blobs", tmp_path / "hub/snapshots/abc"
    elsewhere = tmp_path / "store"
    for folder in (blobs, snapshot, elsewhere):
        folder.mkdir(parents=True)
    (blobs / "f00").write_text("x")
    (elsewhere / "big").write_text("y")
    (blobs / "f01").symlink_to(elsewhere / "big")
    (snapshot / "config.json").symlink_to("../../blobs/f00")
    (snapshot / "weights").symlink_to("../../blobs/f01")
    (snapshot / "broken").symlink_to("../../blobs/none")
    (snapshot / "inside").symlink_to("config.json")
    assert set(mounts.links_out(snapshot)) == {
        mounts.Mount(str(blobs), str(blobs)),
        mounts.Mount(str(elsewhere / "big"), str(blobs / "f01")),
    }


def test_a_target_is_mounted_once(tmp_path):
    environ = {
        "WORKSPACE": str(tmp_path),
        "RAW": str(tmp_path),
        "HF_HOME": str(tmp_path),
        "MOUNTS": f"{tmp_path}",
    }
    assert mounts.mounts(environ) == [mounts.Mount(str(tmp_path), str(tmp_path), writable=True)]


def test_a_dry_run_prints_the_line_and_writes_nothing(engine, tmp_path):
    done = run("shell", "bash", WORKSPACE=str(tmp_path / "ws"), DRY_RUN="1")
    assert done.returncode == 0 and done.stderr.startswith("would run: ") and "omr:tools bash" in done.stderr
    assert not (tmp_path / "ws").exists() and not (engine / "ran").exists()


@pytest.mark.slow
def test_tiny_runs_on_the_host_unless_the_command_line_says_otherwise(engine, tmp_path):
    file = tmp_path / ".env"
    file.write_text("RUNNER=docker\n")
    host = run("cli", "bin/recipes.py", RUNNER=None, OMR_ENV_FILE=str(file))
    assert host.returncode == 0 and not (engine / "ran").exists()
    words = ("data", "bin/model.py", "--model", "tiny", "--help")
    assert "Usage" in run(*words, RUNNER=None, OMR_ENV_FILE=str(file)).stdout
    assert not (engine / "ran").exists()
    assert run(*words, WORKSPACE=str(tmp_path)).returncode == 0 and (engine / "ran").exists()


# ---- make image ----

NAME, PINNED, OTHER = "example.org/base:1", "sha256:" + "a" * 64, "sha256:" + "b" * 64


@pytest.fixture
def registry(monkeypatch, tmp_path):
    """A registry and an engine as values: what can be pulled, and the digest that it turns out to have."""
    pins = tmp_path / "pins.env"
    known = {"remote": {}, "here": {}, "tag": None, "pins": pins}

    def pin(digest):
        pins.write_text(f"# pins\nTOOLS_BASE={NAME}\nTOOLS_BASE_DIGEST={digest}\n")

    def read():
        return dict(line.split("=", 1) for line in pins.read_text().splitlines() if "=" in line)

    def pull(engine, reference):
        known["here"] |= {reference: known["remote"][reference]} if reference in known["remote"] else {}
        return reference in known["here"]

    monkeypatch.setattr(settings, "pins", read)
    monkeypatch.setattr(image, "pull", pull)
    monkeypatch.setattr(image, "digests", lambda engine, reference: known["here"].get(reference))
    monkeypatch.setattr(image, "tag_digest", lambda engine, reference: known["tag"])
    known["pin"] = pin
    monkeypatch.delenv("TOOLS_BASE", raising=False)
    return known


ENGINE = container.Engine("docker")
EXACT = f"example.org/base@{PINNED}"


def test_a_base_without_a_pinned_digest_prints_the_line_to_add(registry, capsys):
    registry["pin"]("")
    registry["remote"] = {NAME: [PINNED]}
    before = registry["pins"].read_text()
    assert image.base(ENGINE, "tools") == (EXACT, PINNED)
    said = capsys.readouterr().err
    assert "put it into docker/pins.env:\n" in said and f"\nTOOLS_BASE_DIGEST={PINNED}\n" in said
    assert registry["pins"].read_text() == before
    label = "org.opencontainers.image.base"
    found = {f"{label}.name": NAME, f"{label}.digest": PINNED}
    assert f"not pinned yet: add TOOLS_BASE_DIGEST={PINNED}" in image.verdict("tools", found)


def test_a_pinned_base_is_pulled_by_its_digest(registry, capsys):
    registry["pin"](PINNED)
    registry["remote"] = {EXACT: [PINNED]}
    assert image.base(ENGINE, "tools") == (EXACT, PINNED)
    assert f"{NAME} is {PINNED}, as pinned" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("remote", "tag", "expected"),
    [
        ({}, OTHER, f"{NAME} is {OTHER} now, docker/pins.env says {PINNED}"),
        ({}, None, "cannot be pulled .see above.; log in .docker login example.org., or set TOOLS_BASE"),
        ({EXACT: [OTHER]}, None, "came as sha256:b"),
        ({EXACT: []}, None, "came as nothing"),
    ],
)
def test_another_digest_is_refused(registry, remote, tag, expected):
    registry["pin"](PINNED)
    registry["remote"], registry["tag"] = remote, tag
    with pytest.raises(OmrError, match=expected):
        image.base(ENGINE, "tools")


def test_a_base_in_place_of_the_pinned_one_is_not_checked_and_that_is_said(registry, monkeypatch, capsys):
    registry["pin"](PINNED)
    registry["here"] = {"stand-in": []}
    monkeypatch.setenv("TOOLS_BASE", "stand-in")
    assert image.base(ENGINE, "tools") == ("stand-in", "")
    assert "in place of example.org/base:1" in (said := capsys.readouterr().err) and "not checked" in said
    monkeypatch.setenv("TOOLS_BASE", "not-here")
    with pytest.raises(OmrError, match="TOOLS_BASE=not-here cannot be had"):
        image.base(ENGINE, "tools")


@pytest.mark.parametrize(
    ("found", "expected"),
    [((NAME, PINNED), "as pinned"), (("stand-in", ""), "not checked"), ((NAME, OTHER), None)],
)
def test_what_the_labels_say_of_the_base(registry, found, expected):
    registry["pin"](PINNED)
    labels = dict(
        zip(
            ("org.opencontainers.image.base.name", "org.opencontainers.image.base.digest"), found, strict=True
        )
    )
    if expected:
        assert expected in image.verdict("tools", labels)
    else:
        with pytest.raises(OmrError, match="has another"):
            image.verdict("tools", labels)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("nvcr.io/nvidia/nemo-rl:v0.6.0", "nvcr.io/nvidia/nemo-rl"),
        ("localhost:5000/a/b", "localhost:5000/a/b"),
        ("localhost:5000/a/b:1@sha256:00", "localhost:5000/a/b"),
    ],
)
def test_repository(reference, expected):
    assert image.repository(reference) == expected


@pytest.mark.parametrize(
    ("stage", "has", "has_not"),
    [("tools", "FROM ${TOOLS_BASE}", "TRAIN_BASE"), ("train", "FROM ${TRAIN_BASE}", "TOOLS_BASE")],
)
def test_a_build_sees_its_own_part_of_the_dockerfile(stage, has, has_not):
    text = image.dockerfile(stage)
    assert has in text and has_not not in text and f" AS {stage}\n" in text


def test_podman_builds_in_the_format_that_knows_shell():
    podman = container.Engine("podman", podman=True)
    assert "--format=docker" in image.build_argv(podman, "tools", "stand-in", "", "none")
    assert "--format=docker" not in image.build_argv(ENGINE, "tools", "stand-in", "", "none")


def test_the_build_line_carries_no_secret(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://user:pass@proxy:1")
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:pass@mirror/simple")
    line = image.build_argv(ENGINE, "tools", "stand-in", "", "none")
    assert "pass" not in " ".join(line) and "--build-arg=https_proxy" in line
    monkeypatch.setenv("APT_MIRROR", "http://user:pass@mirror/ubuntu")
    with pytest.raises(RequestError, match="APT_MIRROR=http://…@mirror/ubuntu is no address"):
        image.build_argv(ENGINE, "tools", "stand-in", "", "none")


LOCKS = "click==8.5.1 \\\nnumpy==2.4.6\ntorch==2.13.0\nfastokens-b10==0.2.17"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl", True),
        ("fastokens_b10-0.2.17-cp39-abi3-linux_x86_64.whl", True),
        ("numpy-2.4.61-cp311-cp311-linux_x86_64.whl", False),
        ("numpy-2.4-cp311-cp311-linux_x86_64.whl", False),
        ("jax-0.4.0-py3-none-any.whl", False),
        ("README.md", False),
    ],
)
def test_which_wheels_go_into_a_build(name, wanted):
    assert build_site.is_wanted(name, LOCKS) is wanted


def test_what_a_site_adds_to_a_build(tmp_path, monkeypatch):
    wheels, ca = tmp_path / "wheels", tmp_path / "ca.pem"
    wheels.mkdir()
    pinned = next(
        line for line in (ROOT / "docker/cli.lock").read_text().splitlines() if line.startswith("click==")
    )
    version = pinned.split()[0].removeprefix("click==")
    for name in (f"click-{version}-py3-none-any.whl", "other-1.0-py3-none-any.whl"):
        (wheels / name).write_text("wheel")
    ca.write_text("-----BEGIN CERTIFICATE-----\nours\n")
    found = {
        "find-links": f"{wheels} https://mirror/links",
        "index-url": "https://u:p@mirror/simple",
        "no-index": "",
    }
    monkeypatch.setattr(build_site, "pip_configuration", lambda: found)
    monkeypatch.setenv("CA_BUNDLE", str(ca))
    monkeypatch.setenv("NEMO_SKILLS", "none")
    assert build_site.prepare(("cli",), tmp_path / "site") == "none"
    assert (tmp_path / "site/pip.conf").read_text().splitlines() == [
        "[global]",
        "index-url = https://u:p@mirror/simple",
        "find-links = /opt/omr/build/site/wheels https://mirror/links",
        "cert = /opt/omr/build/site/ca.pem",
    ]
    assert [f.name for f in (tmp_path / "site/wheels").iterdir()] == [f"click-{version}-py3-none-any.whl"]
    trusted = (tmp_path / "site/ca.pem").read_text()
    assert "ours" in trusted and trusted.count("BEGIN CERTIFICATE") > 10  # beside the public ones
    ca.write_text("no certificate")
    with pytest.raises(RequestError, match="no PEM file of certificates"):
        build_site.prepare(("cli",), tmp_path / "site")
