"""`make cancel`: what it cancels, what it writes down, and who is told."""

import json
import sys

import click.testing
import pytest

from omr import recipe
from omr.cluster import slurm
from omr.cluster.slurm import Queued
from omr.run import notify
from omr.settings import ROOT

sys.path.insert(0, str(ROOT / "bin"))
import cancel

WORDS = ["--model", "tiny", "--name", "x", "--steps", "24"]


@pytest.fixture
def folder(space, monkeypatch):
    """A chain of two jobs that live; `told` and `cancelled` are what came of it."""
    made = space.run(recipe.run("tiny", 1, steps=24, name="x"))
    made.root.mkdir(parents=True)
    listed = [{"key": f"train-{number}", "id": number} for number in ("7", "8")]
    made.jobs_json.write_text(json.dumps({"chain": "c", "jobs": listed}))
    live = [
        Queued("7", "RUNNING", "", "omr", str(made.root)),
        Queued("8", "PENDING", "", "omr", str(made.root)),
    ]
    monkeypatch.setattr(slurm, "need", lambda: None)
    monkeypatch.setattr(slurm, "queue", lambda: live)
    return made


def test_a_cancelled_chain_is_told_once(folder, monkeypatch):
    cancelled, told = [], []
    monkeypatch.setattr(slurm, "cancel", cancelled.extend)
    monkeypatch.setattr(notify, "tell", lambda *words: told.append(words[1:]))
    done = click.testing.CliRunner().invoke(cancel.main, WORDS)
    assert done.exit_code == 0, done.output
    assert cancelled == ["8", "7"]  # what waits first
    assert "cancelled by make cancel: jobs 8, 7" in folder.event_log.read_text()
    text = "tiny round1-x cancelled: jobs 8, 7, by make cancel"
    assert told == [("tiny round1-x cancelled", text, folder.event_log, "c")]


def test_a_dry_run_cancels_and_tells_nothing(folder, monkeypatch):
    monkeypatch.setattr(slurm, "cancel", None)
    monkeypatch.setattr(notify, "tell", None)
    done = click.testing.CliRunner().invoke(cancel.main, [*WORDS, "--dry-run"])
    assert done.output == "scancel 8 7\n"


def test_nothing_to_cancel(folder, monkeypatch):
    monkeypatch.setattr(slurm, "queue", lambda: [])
    monkeypatch.setattr(notify, "tell", None)
    assert "nothing is queued or running" in click.testing.CliRunner().invoke(cancel.main, WORDS).output
