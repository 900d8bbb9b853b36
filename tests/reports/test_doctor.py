"""What the doctor says of a machine, on a PATH that the test lays out."""

import subprocess
import sys

import pytest

from omr.reports import doctor
from omr.settings import ROOT


def stub(folder, name, says, code=0):
    """A program that prints one line."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho '{says}'\nexit {code}\n")
    (folder / name).chmod(0o755)


def state(found, name):
    return next((check.state, check.found) for check in found if check.name == name)


@pytest.mark.parametrize(
    "runner, programs, name, expected",
    [
        (None, {}, "shuf", ("missing", "not installed")),
        (None, {"shuf": "shuf (GNU coreutils) 9.1"}, "shuf", ("ok", "shuf (GNU coreutils) 9.1")),
        (None, {"sed": "sed: BSD"}, "sed", ("missing", "sed: BSD")),
        (None, {}, "docker", ("absent", "not installed")),
        ("docker", {}, "docker", ("missing", "not installed")),
        ("docker", {"docker": "20.10.24"}, "docker", ("ok", "20.10.24")),
        (None, {}, "sinfo", ("absent", "not installed")),
        ("slurm", {}, "sinfo", ("missing", "not installed")),
        ("slurm", {"sinfo": "slurm-wlm 22.05.8"}, "sinfo", ("ok", "slurm-wlm 22.05.8")),
        ("slurm", {"srun": "  --container-image=..."}, "pyxis", ("ok", "srun knows --container-image")),
        ("slurm", {}, "pyxis", ("absent", "not there")),
        (None, {"nvidia-smi": "NVIDIA H200, 143771 MiB"}, "gpu", ("ok", "NVIDIA H200, 143771 MiB")),
        (None, {}, "gpu", ("absent", "none")),
    ],
)
def test_programs(tmp_path, monkeypatch, runner, programs, name, expected):
    (tmp_path / "bin").mkdir()
    for program, says in programs.items():
        stub(tmp_path / "bin", program, says)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert state(doctor.checks(tmp_path, runner), name) == expected


def test_a_stopped_docker_daemon_is_told_from_none(tmp_path, monkeypatch):
    stub(tmp_path / "bin", "docker", "", code=1)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert state(doctor.checks(tmp_path, "docker"), "docker") == ("missing", "installed, does not answer")


@pytest.mark.parametrize("mode, expected", [(0o644, "missing"), (0o600, "ok")])
def test_secrets_that_others_may_read(tmp_path, monkeypatch, mode, expected):
    file = tmp_path / ".env"
    file.write_text("HF_TOKEN=hf_x\n")
    file.chmod(mode)
    monkeypatch.setenv("OMR_ENV_FILE", str(file))
    assert state(doctor.checks(tmp_path, None), ".env")[0] == expected


def test_an_unwritable_workspace_is_missing(tmp_path):
    (tmp_path / "file").write_text("")
    assert state(doctor.checks(tmp_path / "file" / "below", None), "workspace")[0] == "missing"


def test_what_is_missing_ends_with_one_line_and_code_1(tmp_path):
    command = [sys.executable, ROOT / "bin/doctor.py"]
    env = {
        "PATH": "/nowhere",
        "PYTHONPATH": str(ROOT),
        "OMR_ENV_FILE": "/dev/null",
        "WORKSPACE": str(tmp_path),
    }
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 1
    assert "missing   shuf" in done.stdout
    assert done.stderr == "error: missing here: shuf, sed, make, flock; see the advice beside each\n"
