"""What Slurm's programs answer, or a site's wrapper of them: taken field by field, or refused in a line."""

import os
import re

import pytest

from omr import recipe
from omr.cluster import slurm, status, submit
from omr.run.chain_state import Submitted, SubmittedJob
from omr.workspace import RunFolder

from .kit import Reader, attack, refusal

RUN = recipe.run("tiny", 1)
SQUEUE = b"""12|RUNNING|None|omr-train|/w/runs/tiny/round1|2026-01-31T18:00:00|node[1-4]
13_1|PENDING|Dependency|omr-convert|/w/runs/tiny/round1|N/A|
14_[2-5%2]|PENDING|JobHeldUser|omr-x|/w/runs/tiny/round1|N/A|
"""
SACCT = b"11|CANCELLED by 1000|omr-train|None|0:15|node1\n10_1|FAILED|omr-convert|None|1:0|node2\n"
SINFO = b"node1 idle\nnode2 mix*\nnode3 down\n"
# An answer in the encoding of another time, with what moves a cursor, and fields that are no fields.
ODD = (
    b"12|RUNNING|None|\xff\xfe\x1b[2J\r|x|y|z\n",
    b"-u root|RUNNING|None|x|x|y|z\n",
    b"all|PENDING|JobHeldUser|x|x|y|z\n",
    b"12; scancel -u me|RUNNING|a|b|c|d|e\n",
    b"\xd9\xa3|RUNNING|a|b|c|d|e\n",  # a digit of another script
    b"11| |x|None|0:15|node1\n",
    b"11||||||\n",
    b"|" * 100_000,
    b"12|RUNNING|None|a\x0b12|PENDING|None|b|c|d\n",  # splitlines() would make two of it
    b"0001-01-01T00:00:00",
    b"9999-99-99",
    b"2026-01-31T18:00:00+99:99",
)


@pytest.fixture
def answers(tmp_path, monkeypatch):
    """Programs of Slurm that answer with the content of the file `answer`; scancel writes down its words."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("squeue", "sacct", "sinfo", "sbatch", "scontrol"):
        (folder / name).write_text(f"#!/bin/sh\nexec cat {tmp_path}/x/answer\n")
    (folder / "scancel").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {tmp_path}/cancelled\n')
    for path in folder.iterdir():
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_PARTITION", "main")
    return tmp_path


def submit_one(path):
    slurm.cancel([slurm.sbatch(["sbatch", "x"], dict(os.environ))])


def of_run(path):
    """make status and make cancel, of a run that has a chain."""
    folder = RunFolder(path.parent)
    Submitted("c0", jobs=tuple(SubmittedJob("train", n) for n in ("11", "12", "13"))).save(folder.jobs_json)
    for line in status.lines(status.of(RUN, folder)):
        assert line.isprintable()
    slurm.jobs(["11", "12", "13"])
    for comment in ("/w/runs/tiny/round1", "x", "c", ""):
        slurm.cancel(row.job for row in slurm.live_with_comment(comment))
        slurm.cancel(row.job for row in submit.interrupted(comment, [folder.jobs_json]))


READERS = {
    "squeue": Reader("answer", SQUEUE, of_run, found=ODD),
    "sacct": Reader("answer", SACCT, of_run, found=ODD),
    "sinfo": Reader("answer", SINFO, lambda path: slurm.can_do_without(["node1"]), found=ODD),
    "sbatch": Reader("answer", b"Welcome\n145;main\n", submit_one, found=ODD),
    "end": Reader("answer", b"2026-01-31T18:00:00", lambda path: slurm.end_time("7", {}, tries=1), found=ODD),
    "active": Reader("answer", b"RUNNING\n", lambda path: slurm.is_active("7"), found=ODD),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_an_answer_is_taken_or_refused_in_a_line(name, answers):
    attack(READERS[name], answers / "x")
    cancelled = answers / "cancelled"
    words = set(cancelled.read_text().split("\n")) if cancelled.exists() else set()
    assert all(re.fullmatch(r"--quiet|[0-9]+|", word, re.ASCII) for word in words), words


@pytest.mark.parametrize("text", ["9" * 5000, "1-" + "9" * 5000, "٣:٠٠:٠٠", "4:00:00\n", "-1", ""])
def test_a_time_limit_of_any_text(text):
    refusal(lambda: slurm.limit(text))


@pytest.mark.parametrize("job", ["-u root", "all", "12,13", "", "１２", "12\n", "$(id)"])
def test_a_record_whose_ids_are_none_is_refused(job, tmp_path):
    """They become words of sacct's and scancel's command lines."""
    Submitted("c0", jobs=(SubmittedJob("train", job),)).save(tmp_path / "jobs.json")
    assert "no job id" in refusal(lambda: Submitted.load(tmp_path / "jobs.json"))
