"""Whether a run goes on: on this machine, on another one, on Slurm."""

import json
import os
import time

import pytest

from omr.cluster import slurm
from omr.cluster.slurm import Queued
from omr.errors import OmrError
from omr.reports.watch import looks
from omr.reports.watch.looks import Watched

from .conftest import RUN


def test_a_training_on_this_machine(training):
    watched = Watched(RUN, training.folder)
    training.steps(3)
    found = watched.look()
    assert found.live and list(found.losses) == [2.0, 1.0, 2 / 3] and found.status.step == 3
    training.end(final=False)
    assert not watched.look().live


def test_a_finished_training(training):
    training.end()
    assert not Watched(RUN, training.folder).look().live


@pytest.mark.parametrize(("age", "live"), [(10, True), (2 * looks.SILENT, False)])
def test_a_training_on_another_machine_lives_while_it_steps(training, age, live):
    training.steps(1)
    (training.folder.root / ".train.lock").write_text("process 7 on elsewhere")
    os.utime(training.folder.metrics, (time.time() - age,) * 2)
    assert Watched(RUN, training.folder).look().live is live


def test_slurm_is_asked_now_and_then(training, monkeypatch):
    asked = []

    def jobs(ids):
        asked.append(ids)
        return {"7": Queued("7", "RUNNING", "None", "omr")}

    monkeypatch.setattr(slurm, "jobs", jobs)
    training.folder.jobs_json.write_text(json.dumps({"chain": "c", "jobs": [{"key": "train-1", "id": "7"}]}))
    watched = Watched(RUN, training.folder)
    assert watched.look().live and watched.look().live
    training.steps(2)
    assert watched.look().status.step == 2 and asked == [["7"]]
    monkeypatch.setattr(looks, "ASK_SLURM", 0)
    watched.look()
    assert len(asked) == 2


def test_jobs_live_while_slurm_is_silent(training, monkeypatch):
    def silent(ids):
        raise slurm.OmrError("squeue failed: no answer")

    training.folder.jobs_json.write_text(json.dumps({"chain": "c", "jobs": [{"key": "train-1", "id": "7"}]}))
    monkeypatch.setattr(slurm, "jobs", silent)
    assert Watched(RUN, training.folder).look().live
    monkeypatch.setattr(slurm, "jobs", lambda ids: {"7": Queued("7", "FAILED", "", "omr")})
    assert not Watched(RUN, training.folder).look().live


def test_the_active_runs_of_a_workspace(training, tmp_path):
    root = tmp_path / "w"
    assert [each.run for each in looks.active(root)] == [RUN]
    training.end(final=False)
    assert looks.active(root) == []


def test_a_damaged_run_is_one_line(training, tmp_path):
    training.folder.run_json.write_text("{}")
    with pytest.raises(OmrError, match=r"run\.json: is damaged"):
        looks.active(tmp_path / "w")
