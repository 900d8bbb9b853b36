"""`make sqsh` on a real Slurm, with an enroot that writes down what it is asked: whole or not at all."""

import pytest

from .cluster import wait
from .conftest import Site

ENROOT = """#!/usr/bin/env bash
set -euo pipefail
[[ $1 == import && $2 == --output ]]
key=$ENROOT_CONFIG_PATH/.credentials
printf '%s\\n' "$4" "$(stat -c %a "$key")" "$(<"$key")" >>"$WORKSPACE/asked"
printf half >"$3"
sleep "${OMR_STAND_IN_SLEEP:-0}"
[[ -z ${OMR_STAND_IN_CRASH:-} ]] || { echo "[ERROR] 401 Unauthorized" >&2; exit 1; }
printf whole >"$3"
"""


@pytest.fixture
def here(slurm, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "enroot").write_text(ENROOT)
    (tools / "enroot").chmod(0o755)
    words = {
        "CONTAINER": str(tmp_path / "images" / "omr.sqsh"),
        "IMAGE": "nvcr.io/team/omr",
        "SQSH_SPACE": "1000",
    }
    made = Site(slurm, tmp_path / "w", **words, PATH="", TMPDIR=str(tmp_path))
    made.env["PATH"] = f"{tools}:{slurm.env['PATH']}"
    (tmp_path / "images").mkdir()
    (made.root / "env").write_text("NGC_API_KEY=s3cret\n")
    (made.root / "env").chmod(0o600)
    return made


def job(here, **env):
    said = here.run("bin/sqsh.py", **env).stdout
    return said, said.split(" by job ")[1].split(";")[0]


def test_once_and_whole(here, tmp_path):
    said, number = job(here)
    wait(lambda: here.state(number) == "COMPLETED", 60, "the import did not end")
    assert "docker://nvcr.io#team/omr:train is imported" in said and "s3cret" not in said
    image = tmp_path / "images" / "omr.sqsh"
    assert image.read_text() == "whole" and [p.name for p in image.parent.iterdir()] == ["omr.sqsh"]
    source, mode, key = (here.root / "asked").read_text().splitlines()
    assert (source, mode) == ("docker://nvcr.io#team/omr:train", "600") and key.endswith("password s3cret")
    assert not list(tmp_path.glob("omr-sqsh-*"))
    assert "s3cret" not in "".join(p.read_text() for p in (here.root / "logs").iterdir())
    assert "is there already" in here.run("bin/sqsh.py").stdout


@pytest.mark.parametrize("way", ["fails", "is cancelled"])
def test_an_import_that_fails_leaves_nothing(here, tmp_path, way):
    more = {"OMR_STAND_IN_CRASH": "1"} if way == "fails" else {"OMR_STAND_IN_SLEEP": "60"}
    _, number = job(here, **more)
    if way == "is cancelled":
        wait((here.root / "asked").exists, 60, "the import did not begin")
        again = here.run("bin/sqsh.py", check=False)
        assert again.returncode == 2 and number in again.stderr
        here.slurm.call("scancel", number)
    wait(lambda: here.state(number) in ("FAILED", "CANCELLED"), 60, "the import did not end")
    wait(lambda: not list(tmp_path.glob("omr-sqsh-*")), 20, "scratch was left")
    assert not list((tmp_path / "images").iterdir())
    assert way == "is cancelled" or "401" in "".join(
        p.read_text() for p in (here.root / "logs").glob("*.log")
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"CONTAINER": "/x/omr.img"}, "is no .sqsh path"),
        ({"CONTAINER": "/nowhere/omr.sqsh"}, "there is no folder"),
    ],
)
def test_refused_before_a_job(here, words, says):
    done = here.run("bin/sqsh.py", check=False, **words)
    assert done.returncode == 2 and says in done.stderr
