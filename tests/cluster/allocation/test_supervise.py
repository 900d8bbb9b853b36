"""The engine's process under a link: signals, saves seen from outside, an engine that hangs."""

import json
import os
import sys
import time

import pytest

from omr import recipe
from omr.cluster import slurm
from omr.cluster.allocation import supervise
from omr.cluster.allocation.attempt import Attempt
from omr.request import TrainRequest
from omr.run import checkpoints, events, lease
from omr.run.chain_state import ChainState
from omr.run.checkpoints import Checkpoints
from omr.workspace import RunFolder

RUN = recipe.run("tiny", 1, steps=24, name="x")  # averages 6, 12, 18, 24


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("a\nb\n", "b"),
        ("srun: error: n1: task 0: Exited\n", "it said nothing"),
        ("ValueError: no\nlater\nsrun: error: x\n", "ValueError: no"),
        ("fine\nslurmstepd-n1: error: *** STEP 3.1 ON n1 CANCELLED ***\n", "fine"),
        ("error: disk full\nerror: last\n", "error: last"),
        ("", "it said nothing"),
        (None, "it wrote no log"),
    ],
)
def test_last_line(tmp_path, log, said):
    path = tmp_path / "engine.log"
    if log is not None:
        path.write_text(log)
    assert supervise.last_line(path) == said


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    """A start whose allocation ends in an hour, under a lease of its own."""
    monkeypatch.setattr(slurm, "end_time", lambda job, **_: time.time() + 3600)
    folder = RunFolder(tmp_path / "run")
    folder.logs.mkdir(parents=True)
    folder.checkpoints.mkdir()
    found = Checkpoints(folder, "nemo-rl")
    monkeypatch.setattr(Checkpoints, "whole", lambda self: checkpoints.steps(self.folder.checkpoints))
    made = Attempt(TrainRequest.of(RUN), folder, None, "7", 0, "1 of 2", found, margin=60)
    made.held = lease.take(folder.lease, "7", 0, lambda job: False)
    return made


def save(attempt, step, seconds=1.0):
    """Shell that saves a checkpoint in this time."""
    place = attempt.folder.checkpoints
    return f"mkdir {place}/tmp_step_{step}; sleep {seconds}; mv {place}/tmp_step_{step} {place}/step_{step}"


def engine(attempt, script, **more):
    """Run a shell script as the engine; returns its exit code, the longest save and the seconds it took."""
    began = time.monotonic()
    result = supervise.run(attempt, attempt.held, ["bash", "-c", script], more)
    return result.code, result.save_seconds, time.monotonic() - began


def test_an_engine_gets_its_deadline_and_a_token_of_its_own(attempt):
    code, _, _ = engine(
        attempt, 'stat -c %a "$RAY_AUTH_TOKEN_PATH"; cat "$RAY_AUTH_TOKEN_PATH"; echo " $OMR_DEADLINE"'
    )
    mode, rest = (attempt.folder.logs / "engine-7-0.log").read_text().split("\n", 1)
    token, deadline = rest.split()
    assert code == 0 and mode == "600" and len(token) == 64
    assert float(deadline) == pytest.approx(time.time() + 3540, abs=30)
    assert not list(attempt.folder.root.glob(".ray-*"))


@pytest.mark.slow
def test_a_save_is_measured(attempt):
    place = attempt.folder.checkpoints
    code, longest, _ = engine(
        attempt, f"mkdir {place}/tmp_step_8; sleep 1.5; mv {place}/tmp_step_8 {place}/step_8; sleep 1"
    )
    assert code == 0 and 1 < longest < 5


@pytest.mark.slow
def test_a_save_that_slurm_cut_off_makes_the_next_margin_larger(attempt, monkeypatch):
    """The supervisor may be killed with it, so what it saw is written down while it lasts."""
    monkeypatch.setattr(supervise, "NOTED", 1)
    ChainState(save_seconds=0.5).save(attempt.folder)
    place = attempt.folder.checkpoints
    seen = attempt.folder.root / "seen"
    engine(attempt, f"mkdir {place}/tmp_step_8; sleep 2.5; cp {attempt.folder.links_json} {seen}")
    assert 1.5 <= json.loads(seen.read_text())["save_seconds"] < 10


@pytest.mark.slow
def test_an_engine_that_saved_and_does_not_end_is_ended(attempt, monkeypatch):
    monkeypatch.setattr(supervise, "LINGER", 1)
    code, _, seconds = engine(attempt, save(attempt, 24) + "; sleep 100")
    assert code != 0 and seconds < 20
    assert "and does not end: the engine is ended" in attempt.folder.event_log.read_text()
    assert [event.kind for event in events.read(attempt.folder)] == ["hung"]


@pytest.mark.slow
def test_a_save_on_the_way_ends_nothing(attempt, monkeypatch):
    monkeypatch.setattr(supervise, "LINGER", 1)
    place = attempt.folder.checkpoints
    code, _, _ = engine(
        attempt, f"mkdir {place}/tmp_step_6; sleep 1; mv {place}/tmp_step_6 {place}/step_6; sleep 3"
    )
    assert code == 0 and not attempt.folder.event_log.exists()


@pytest.mark.parametrize(
    ("start", "silent", "script", "ended"),
    [
        (1, 100, "sleep 100", True),  # it never came to a first step
        (100, 1, 'sleep 1; echo "{}" >> "$OMR_METRICS"; sleep 100', True),
        (4, 3, 'for i in 1 2 3 4 5; do sleep 1; echo "{}" >> "$OMR_METRICS"; done', False),
    ],
)
@pytest.mark.slow
def test_an_engine_that_hangs_is_ended(attempt, monkeypatch, start, silent, script, ended):
    monkeypatch.setattr(supervise, "START", start)
    monkeypatch.setattr(supervise, "SILENT", silent)
    code, _, seconds = engine(attempt, script)
    assert (code != 0) is ended and seconds < 30
    assert ("no step for" in "".join(attempt.stopped)) is ended


@pytest.mark.slow
@pytest.mark.parametrize(("asks", "kind"), [("deadline", "deadline"), ("signal", "asked")])
def test_why_it_was_asked_to_stop_is_read_back(attempt, monkeypatch, asks, kind):
    """The run's page tells a job whose time was up from one that Slurm ended."""
    if asks == "deadline":
        monkeypatch.setattr(slurm, "end_time", lambda job, **_: time.time() + 61)
    script = 'while [ ! -e "$OMR_STOP" ]; do sleep 0.1; done'
    engine(attempt, f"kill -TERM {os.getpid()}; {script}" if asks == "signal" else script)
    assert [event.kind for event in events.read(attempt.folder)] == [kind]


def test_a_lost_lease_ends_the_engine(attempt):
    script = f"{sys.executable} -c 'import time; time.sleep(100)'"
    os.environ.pop(lease.VARIABLE, None)
    lease.take(attempt.folder.lease, "8", 0, lambda job: False)
    code, _, seconds = engine(attempt, script)
    assert code != 0 and seconds < 20 and not attempt.held.holds
