"""The doctor's pages: of a machine on a PATH that the test lays out, and of a request, by bin/doctor.py."""

import json
import os
import re
import subprocess
import sys

import pytest

from omr import settings
from omr.containers.checks import of_error
from omr.errors import OmrError
from omr.reports.doctor import judge, request
from omr.settings import ROOT

from .kit import asked, held, row, stub


def state(found, name):
    return next((check.state, check.found) for check in found if check.name == name)


@pytest.mark.parametrize(
    "runner, programs, name, expected",
    [
        (None, {}, "shuf", ("fix", "not installed")),
        (None, {"shuf": "shuf (GNU coreutils) 9.1"}, "shuf", ("ok", "shuf (GNU coreutils) 9.1")),
        (None, {"sed": "sed: BSD"}, "sed", ("fix", "sed: BSD")),
        (None, {}, "docker", ("absent", "not installed")),
        ("docker", {}, "docker", ("fix", "not installed")),
        ("docker", {"docker": "20.10.24"}, "docker", ("ok", "20.10.24")),
        (None, {}, "sinfo", ("absent", "not installed")),
        ("slurm", {}, "sinfo", ("fix", "not installed")),
        ("slurm", {"sinfo": "slurm-wlm 22.05.8"}, "sinfo", ("ok", "slurm-wlm 22.05.8")),
        ("slurm", {"srun": "  --container-image=..."}, "pyxis", ("ok", "srun knows --container-image")),
        ("slurm", {}, "pyxis", ("ok", "not there, and CONTAINER is not set")),
        (None, {"nvidia-smi": "NVIDIA H200, 143771 MiB"}, "gpu", ("ok", "NVIDIA H200, 143771 MiB")),
        (None, {"nvidia-smi": "H100, 1\nH100, 1"}, "gpu", ("ok", "2 × H100, 1")),
        (None, {}, "gpu", ("absent", "none")),
        (None, {}, "bubblewrap", ("absent", "not installed")),
        (None, {"bwrap": "bubblewrap 0.8.0"}, "bubblewrap", ("ok", "bubblewrap 0.8.0")),
    ],
)
def test_programs(tmp_path, monkeypatch, runner, programs, name, expected):
    (tmp_path / "bin").mkdir()
    for program, says in programs.items():
        stub(tmp_path / "bin", program, says)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CONTAINER", raising=False)
    assert state(judge.of_machine(tmp_path, runner), name) == expected


def test_a_stopped_docker_daemon_is_told_from_none(tmp_path, monkeypatch):
    stub(tmp_path / "bin", "docker", "", code=1)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert state(judge.of_machine(tmp_path, "docker"), "docker") == ("fix", "installed, does not answer")


def test_an_unwritable_workspace_is_to_be_fixed(tmp_path):
    (tmp_path / "file").write_text("")
    assert state(judge.of_machine(tmp_path / "file" / "below", None), "workspace")[0] == "fix"


@pytest.mark.parametrize(
    ("line", "found", "advice"),
    [
        ("/x: is gone; run make data", "/x: is gone", "run make data"),
        ("a (b; c); do (d; e), or f", "a (b; c)", "do (d; e), or f"),
        ("a was 1; b was 2; set NAME", "a was 1; b was 2", "set NAME"),
        ("squeue failed: no", "squeue failed: no", "scontrol ping"),
    ],
)
def test_the_next_step_of_a_refusal_is_its_advice(line, found, advice):
    check = of_error("x", OmrError(line), "scontrol ping")
    assert (check.state, check.found, check.advice) == ("fix", found, advice)


def test_every_stage_of_the_makefile_can_be_judged():
    text = (ROOT / "Makefile").read_text()
    group = re.search(r"##@ Stages\n(.*?)##@", text, re.DOTALL)[1]
    stages = {*re.findall(r"^([a-z-]+):", group, re.MULTILINE), "demo", "pipeline"}
    assert {*settings.SETTINGS["FOR"].choices} == stages
    assert stages <= set(request.tiers())


@pytest.mark.parametrize("target", settings.SETTINGS["FOR"].choices)
@pytest.mark.parametrize("runner", ["host", "docker", "slurm"])
def test_every_target_on_every_runner_is_judged_in_rows(tmp_path, monkeypatch, target, runner):
    """On a machine without network, engine or Slurm: whatever is wrong is a row, with what to type."""
    for name in settings.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "RUNNER": runner,
        "WORKSPACE": str(tmp_path / "w"),
        "OMR_ENV_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    stub(tmp_path / "bin", "shuf", "shuf (GNU coreutils) 9.1")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = judge.of_request(asked(target, tmp_path / "w"))
    assert {"clock", "umask", "disk", "secrets", "request"} <= {check.name for check in found}
    assert all(check.advice for check in found if check.state != "ok")
    assert {check.state for check in found} <= {"ok", "warn", "fix"}
    assert not (tmp_path / "w").exists()


def test_a_real_training_has_to_be_told_where(tmp_path, monkeypatch):
    monkeypatch.delenv("RUNNER", raising=False)
    held(
        row(judge.of_request(asked("train", tmp_path)), "runner"),
        "fix",
        "RUNNER is not set",
        "choose RUNNER=slurm",
    )


@pytest.mark.slow
def test_code_that_nothing_isolates(tmp_path, monkeypatch):
    monkeypatch.setenv("MODE", "tir")
    monkeypatch.setenv("RUNNER", "host")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("SANDBOX", raising=False)
    held(
        row(judge.of_request(asked("eval", tmp_path)), "bubblewrap"),
        "fix",
        "not installed",
        "apt install bubblewrap",
    )
    held(row(judge.of_request(asked("eval", tmp_path)), "gpu"), "fix", "none", "RUNNER=slurm")
    stub(tmp_path / "bin", "bwrap", "bubblewrap 0.8.0")
    stub(tmp_path / "bin", "nvidia-smi", "NVIDIA H100, 81559 MiB")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = judge.of_request(asked("eval", tmp_path))
    held(row(found, "bubblewrap"), "ok", "0.8.0")
    held(row(found, "gpu"), "ok", "H100")


def test_a_data_stage_without_shuf(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("RUNNER", "host")
    held(
        row(judge.of_request(asked("data", tmp_path, dataset="tiny")), "data"),
        "fix",
        "GNU shuf is not installed",
        "coreutils",
    )


@pytest.mark.slow
def test_a_list_without_a_name_of_its_own(tmp_path):
    done = doctor(tmp_path, FOR="data", DATASET="tiny", DROP="wrong.txt", PATH=os.environ["PATH"])
    assert "fix       data" in done.stdout and "DROP=wrong.txt makes another file" in done.stdout


@pytest.mark.slow
def test_a_secret_that_jobs_would_not_have(tmp_path, monkeypatch):
    monkeypatch.setenv("OMR_ENV_FILE", str(tmp_path / "env"))
    monkeypatch.setenv("RUNNER", "slurm")
    monkeypatch.setenv("WANDB_API_KEY", "s3cret")
    check = row(judge.of_request(asked("train", tmp_path)), "secrets")
    held(check, "warn", "WANDB_API_KEY is set here", f"put WANDB_API_KEY into {tmp_path}/env")
    (tmp_path / "env").write_text("WANDB_API_KEY=s3cret\n")
    (tmp_path / "env").chmod(0o600)
    check = row(judge.of_request(asked("train", tmp_path)), "secrets")
    held(check, "ok", "WANDB_API_KEY set")
    assert "s3cret" not in check.found


def doctor(tmp_path, **environ):
    env = {
        "PATH": "/nowhere",
        "PYTHONPATH": str(ROOT),
        "OMR_ENV_FILE": "/dev/null",
        "WORKSPACE": str(tmp_path),
    }
    command = [sys.executable, ROOT / "bin/doctor.py"]
    return subprocess.run(command, capture_output=True, text=True, env={**env, **environ})


@pytest.mark.slow
def test_what_is_to_be_fixed_ends_with_one_line_and_code_1(tmp_path):
    done = doctor(tmp_path)
    assert done.returncode == 1
    assert "fix       shuf" in done.stdout
    assert done.stderr == "error: to fix: shuf, sed, make, flock; the advice stands beside each\n"


@pytest.mark.slow
def test_a_request_is_judged_by_the_script(tmp_path):
    done = doctor(tmp_path, FOR="train", MODEL="tiny", JSON="1")
    rows = {each["name"]: each for each in json.loads(done.stdout)}
    assert rows["request"]["found"] == "train tiny round1 on host" and rows["inputs"]["state"] == "fix"
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "to fix:" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"FOR": "trian"}, "FOR=trian is unknown; choose data, data-report, model"),
        ({"FOR": "train"}, "MODEL is not set; choose MODEL=tiny"),
        ({"FOR": "train", "MODEL": "32b", "ROUND": "2"}, "32b trains in round 1 only"),
        ({"RUNNER": "slrum"}, "RUNNER=slrum is unknown; choose host, docker or slurm"),
    ],
)
def test_a_wrong_request_is_refused_with_the_choices(tmp_path, words, said):
    done = doctor(tmp_path, **words)
    assert done.returncode == 2 and said in done.stderr and done.stdout == ""
