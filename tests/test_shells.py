"""The shell scripts, whatever a user's own shell has exported."""

import os
import re
import subprocess

import pytest

from omr.settings import ROOT

SCRIPTS = sorted(
    path
    for folder in ("docker", "slurm", ".ci")
    for path in (ROOT / folder).iterdir()
    if path.is_file() and path.read_bytes().startswith(b"#!/usr/bin/env bash")
)
OWN = {
    "CDPATH": {"CDPATH": ".:/root:/tmp"},
    "POSIXLY_CORRECT": {"POSIXLY_CORRECT": "1"},
    "GREP_OPTIONS": {"GREP_OPTIONS": "--color=always -v"},
    "IFS": {"IFS": "/o"},
    "noclobber": {"SHELLOPTS": "noclobber"},
    "BASH_ENV": {"BASH_ENV": "{tmp}/rc"},
}
RC = "shopt -s expand_aliases\nalias cd='echo gone; false'\nalias ls='ls --color=always'\nset -o noclobber\n"


@pytest.fixture(params=OWN, ids=str)
def own(request, tmp_path):
    """An environment with something of a user's own shell."""
    (tmp_path / "rc").write_text(RC)
    return {**os.environ, **{key: text.format(tmp=tmp_path) for key, text in OWN[request.param].items()}}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_each_begins_on_its_own_terms(script):
    first = [line for line in script.read_text().splitlines() if line and not line.startswith("#")][:2]
    assert re.fullmatch(r"set -e?uo pipefail \+C \+o posix", first[0])
    assert first[1].startswith(
        "unset CDPATH BASH_ENV POSIXLY_CORRECT GREP_OPTIONS && shopt -u expand_aliases"
    )


@pytest.mark.parametrize(
    "command",
    [
        ["docker/run", "cli", "bin/recipes.py"],
        ["docker/venv", "cli"],
        ["make", "recipes"],
    ],
    ids=" ".join,
)
@pytest.mark.slow
def test_what_a_shell_has_exported_changes_nothing(own, command):
    def run(environ):
        environ = {**environ, "OMR_ENV_FILE": "/dev/null"}
        return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120)

    usual, there = run(dict(os.environ)), run(own)
    assert (there.returncode, there.stdout) == (0, usual.stdout), there.stderr


def test_the_library_of_the_jobs_is_read(own):
    """Its functions' names are none to bash in POSIX's own mode."""
    script = (ROOT / "slurm" / "train.sbatch").read_text().splitlines()
    terms = "\n".join(line for line in script if line.startswith(("set ", "unset ")))
    call = f"{terms}\nOMR_ROOT=/x; source {ROOT}/slurm/lib.sh; SLURM_JOB_ID=3 omr::port 20000"
    done = subprocess.run(["bash", "-c", call], env=own, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "20021"), done.stderr


PLAIN = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("environ", [{"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii"}, PLAIN])
@pytest.mark.parametrize(
    "command", [["make"], ["docker/run", "cli", "bin/status.py", "--help"]], ids=" ".join
)
@pytest.mark.slow
def test_no_terminal_is_too_plain(environ, command):
    """What a terminal cannot show becomes `?`; nothing fails for it."""
    environ = {**os.environ, "OMR_ENV_FILE": "/dev/null", **environ}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, timeout=120)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr.decode()


@pytest.mark.slow
def test_a_workspace_beyond_ascii_in_a_plain_locale(tmp_path):
    environ = {**os.environ, "OMR_ENV_FILE": "/dev/null", **PLAIN, "WORKSPACE": str(tmp_path / "größe")}
    environ |= {"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    words = ["docker/run", "cli", "bin/status.py"]
    done = subprocess.run(words, cwd=ROOT, env=environ, capture_output=True, timeout=120)
    assert done.returncode == 0 and "größe: no run has a chain".encode() in done.stdout, done.stderr.decode()


@pytest.mark.parametrize("locks, refused", [("", False), ("abc", False), ("abd", True)])
def test_an_image_of_other_packages_is_refused(locks, refused):
    environ = {**os.environ, "OMR_LOCKS": "abc", "OMR_IMAGE_LOCKS": locks}
    done = subprocess.run(["docker/entry.sh", "true"], cwd=ROOT, env=environ, capture_output=True, text=True)
    assert ("the image has other packages than the code of this run" in done.stderr) == refused
    assert not refused or (done.returncode == 1 and done.stderr.count("\n") == 1)


def test_a_job_makes_no_environment_for_another_state_of_the_code(tmp_path):
    venv = tmp_path / "venv"
    environ = {**os.environ, "OMR_FROZEN": "1", "OMR_VENV": str(venv)}
    done = subprocess.run(["docker/venv", "cli"], cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 1 and not venv.exists()
    assert done.stderr.startswith(
        f"error: {venv} has other packages than this run's code is made for; run make"
    )
