"""`make prune`: what may go, and above all what may not."""

import os
import shutil
import subprocess
import sys

import pytest

from omr import files, recipe
from omr.models.final import average
from omr.run import checkpoints, prune
from omr.settings import ROOT
from tests.models.kit import save

A, B, C, D = recipe.run("tiny", 1).schedule.averaged


def add(workspace, run, step):
    """A whole checkpoint of a deadline save."""
    folder = workspace.run(run)
    identity = checkpoints.run_identity(files.read_json(folder.run_json)["request"])
    with checkpoints.saving(folder.checkpoints, step, identity) as aside:
        save(aside, step, workspace.model("tiny"))


def cut(workspace, run, step):
    path = workspace.run(run).checkpoint(step) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def drop(workspace, run, *steps):
    for step in steps:
        shutil.rmtree(workspace.run(run).checkpoint(step))


def aside(workspace, run, name):
    (workspace.run(run).checkpoints / name).mkdir()


def two_after(w, r):
    drop(w, r, C, D)
    add(w, r, B + 1)
    add(w, r, B + 2)


# An unfinished run: what happened to it -> what may go. All four averaged steps are there, and converted.
UNFINISHED = [
    ("nothing", lambda w, r: None, []),
    ("deadline saves before the newest", lambda w, r: [add(w, r, n) for n in (A - 7, B + 1)], [A - 7, B + 1]),
    ("a deadline save is the newest", lambda w, r: [drop(w, r, C, D), add(w, r, B + 1)], []),
    ("two of them", two_after, [B + 1]),
    ("the newest is damaged: the one before it stays", lambda w, r: [two_after(w, r), cut(w, r, B + 2)], []),
    ("one is being saved", lambda w, r: aside(w, r, f"tmp_step_{B + 1}"), []),
    ("set aside, a newer is whole", lambda w, r: aside(w, r, f"redo_step_{B + 1}"), [f"redo_step_{B + 1}"]),
    ("set aside, no newer is whole", lambda w, r: [drop(w, r, D), aside(w, r, f"redo_step_{D - 1}")], []),
    ("nothing is whole", lambda w, r: [cut(w, r, n) for n in (A, B, C, D)], []),
]


@pytest.mark.parametrize(("happened", "may_go"), [u[1:] for u in UNFINISHED], ids=[u[0] for u in UNFINISHED])
def test_unfinished(trained, happened, may_go):
    workspace, run = trained
    happened(workspace, run)
    folder = workspace.run(run)
    names = [n if isinstance(n, str) else f"step_{n}" for n in may_go]
    found = prune.surplus(run, workspace)
    assert [entry.path for entry in found] == [folder.checkpoints / name for name in names]
    newest = prune.newest_whole(run, folder)
    before = {p for p in [*folder.checkpoints.iterdir(), *folder.hf.iterdir()]}
    prune.remove(found)
    after = {p for p in [*folder.checkpoints.iterdir(), *folder.hf.iterdir()]}
    assert before - after == {entry.path for entry in found}
    assert prune.newest_whole(run, folder) == newest
    assert prune.surplus(run, workspace) == []


def test_finished(trained):
    workspace, run = trained
    add(workspace, run, B + 1)
    average.make(run, workspace)
    folder = workspace.run(run)
    found = prune.surplus(run, workspace)
    steps = sorted([*run.schedule.averaged, B + 1])
    assert {e.path for e in found} == {
        *(folder.checkpoint(n) for n in steps),
        *(folder.hf_step(n) for n in run.schedule.averaged),
    }
    prune.remove(found)
    assert average.finished(run, workspace) is not None, "final/ stands on its own"
    assert prune.surplus(run, workspace) == []


def test_what_is_only_shown_is_told_by_name(trained, monkeypatch):
    """The workspace's page asks so: a checkpoint of terabytes is not hashed to draw it."""
    workspace, run = trained
    two_after(workspace, run)
    monkeypatch.setattr(checkpoints, "damage", lambda *_: pytest.fail("a checkpoint was read"))
    assert [entry.path.name for entry in prune.surplus(run, workspace, proven=False)] == [f"step_{B + 1}"]
    cut(workspace, run, B + 2)  # names do not tell that
    assert [entry.path.name for entry in prune.surplus(run, workspace, proven=False)] == [f"step_{B + 1}"]


@pytest.mark.slow
def test_the_script_lists_and_only_yes_removes(trained):
    workspace, run = trained
    add(workspace, run, B + 1)
    folder = workspace.run(run)

    def script(*words):
        env = {**os.environ, "WORKSPACE": str(workspace.root), "OMR_ENV_FILE": os.devnull}
        command = [sys.executable, str(ROOT / "bin/prune.py"), "--model", "tiny", *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout

    for words in ((), ("--yes", "--dry-run")):
        code, out = script(*words)
        assert code == 0 and out.endswith("in all\nYES=1 removes them\n")
        assert (
            f"{folder.checkpoint(B + 1)}  (saved for a deadline or recovery, step_{D} is newer and whole)"
            in out
        )
        assert folder.checkpoint(B + 1).exists()
    code, out = script("--yes")
    assert code == 0 and out.endswith("removed\n") and not folder.checkpoint(B + 1).exists()
    assert script() == (0, f"{folder.root}: everything there is needed\n")
    code, out = script("--round", "2")
    assert code == 0 and "everything there is needed" in out
