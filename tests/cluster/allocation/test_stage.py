"""A plain stage inside its job: its exit code, its line in the event log, and word of the chain's end."""

import json
import sys

import pytest

from omr import recipe
from omr.cluster.allocation import stage
from omr.cluster.allocation.attempt import Attempt
from omr.request import TrainRequest
from omr.run import notify
from omr.run.checkpoints import Checkpoints
from omr.workspace import Workspace

RUN = recipe.run("tiny", 1, steps=24, name="x")
JOBS = [("train-1", "7"), ("convert", "8"), ("average", "9")]


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A chain of three jobs; `job(id, code)` is one of its stages that ends with a code."""
    folder = Workspace(tmp_path).run(RUN)
    folder.logs.mkdir(parents=True)
    listed = [{"key": key, "id": number} for key, number in JOBS]
    folder.jobs_json.write_text(json.dumps({"chain": "c", "jobs": listed}))
    told = []
    monkeypatch.setattr(notify, "tell", lambda *words: told.append(words[1:]))
    monkeypatch.setenv("RUN_DIR", str(folder.root))
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)

    def run(number, code=0):
        monkeypatch.setenv("SLURM_JOB_ID", number)
        return stage.run_stage("bin/average.py", [sys.executable, "-c", f"raise SystemExit({code})"])

    run.folder, run.told, run.root = folder, told, tmp_path
    return run


def test_the_last_job_of_a_chain_tells_that_it_finished(job):
    assert job("8") == 0 and not job.told
    assert job("9") == 0
    [(title, text, where, ending)] = job.told
    assert (title, where, ending) == ("tiny round1-x finished", job.folder.final, "c") and "job 9" in text


def test_a_stage_that_fails_tells_that_the_chain_stopped(job):
    assert job("8", code=3) == 3
    [(title, text, where, ending)] = job.told
    assert (title, where, ending) == ("tiny round1-x stopped", job.folder.logs, "c")
    assert "bin/average.py failed with exit code 3 (job 8)" in text
    assert "bin/average.py, job 8: failed with exit code 3" in job.folder.event_log.read_text()


def test_a_job_of_no_run_tells_nobody(job, monkeypatch):
    assert job("99", code=1) == 1 and not job.told
    monkeypatch.delenv("RUN_DIR")
    assert job("9") == 0 and not job.told


def test_links_that_were_used_up_before_the_end(job, monkeypatch):
    attempt = Attempt(
        TrainRequest.of(RUN),
        job.folder,
        Workspace(job.root),
        "8",
        0,
        "? of ?",
        Checkpoints(job.folder, "trl"),
    )
    assert stage.check_complete(attempt) == 1
    [(title, text, _, ending)] = job.told
    assert title == "tiny round1-x stopped" and ending == "c"
    assert "its links are used up: the training stands at step 0 of 24; make train goes on" in text
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    assert stage.check_complete(attempt) == 1 and len(job.told) == 1
