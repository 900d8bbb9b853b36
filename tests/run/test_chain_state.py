"""What the starts of a chain's jobs know of each other: progress, completeness, when a chain is stopped."""

import json

import pytest

from omr import recipe
from omr.run import chain_state
from omr.run.chain_state import ChainState, LinkAttempt, Submitted
from omr.run.checkpoints import Checkpoints
from omr.workspace import RunFolder

RUN = recipe.run("tiny", 1, steps=24, name="x")  # averages 6, 12, 18, 24


def attempt(began, to=None, job="7"):
    return LinkAttempt(job, began, reached=to)


@pytest.mark.parametrize(
    ("attempts", "now", "count"),
    [
        ([], 0, 0),
        ([attempt(0, 8)], 8, 0),
        ([attempt(0, 0)], 0, 1),
        ([attempt(0, 0), attempt(0, 0)], 0, 2),
        ([attempt(0, 8), attempt(8, 8)], 8, 1),
        ([attempt(0, 8), attempt(8, 8), attempt(8, 8)], 8, 2),
        ([attempt(0, 0), attempt(0, 8)], 8, 0),
        # Killed, so that it could not say what it left; the next one, or what stands now, tells.
        ([attempt(0)], 0, 1),
        ([attempt(0)], 8, 0),
        ([attempt(0), attempt(0)], 0, 2),
        ([attempt(0), attempt(8)], 8, 1),
        ([attempt(0, 0), attempt(0)], 4, 0),
        # A checkpoint that turned out damaged is no progress.
        ([attempt(0, 8), attempt(4, 4)], 4, 1),
    ],
)
def test_attempts_without_checkpoint(attempts, now, count):
    assert len(chain_state.attempts_without_checkpoint(attempts, now)) == count


@pytest.mark.parametrize(
    ("attempts", "now", "starts_now", "why"),
    [
        ([attempt(0, 0, "7")], 0, None, None),
        ([attempt(0, 0, "7"), attempt(0, 0, "8")], 0, None, "2 links in a row"),
        # A node was lost twice: one link, that Slurm started three times.
        ([attempt(0, None, "7"), attempt(0, None, "7"), attempt(0, None, "7")], 0, None, None),
        ([attempt(0, 0, "7"), attempt(0, None, "8")], 0, "8", None),
        ([attempt(0, 0, "7"), attempt(0, None, "8")], 0, "9", "2 links in a row"),
        ([attempt(0, 0, "7"), attempt(0, 0, "8"), attempt(0, None, "9")], 4, "9", None),
        ([attempt(0, None, "7")] * 6, 0, "7", "6 starts in a row"),
        ([attempt(0, 8, "6"), *[attempt(8, None, "7")] * 5], 8, "7", None),
    ],
)
def test_when_a_chain_is_stopped(attempts, now, starts_now, why):
    found = chain_state.why_to_stop(attempts, now, starts_now)
    assert found is None if why is None else found.startswith(why)


@pytest.mark.parametrize(
    ("whole", "converted", "final", "complete"),
    [
        ([6, 12, 18, 24], [], False, True),
        ([6, 12, 18], [], False, False),
        ([12, 18, 24], [], False, False),
        ([18, 24], [6, 12], False, True),
        ([6, 12, 18, 23], [], False, False),
        ([], [], True, True),
        ([], [], False, False),
    ],
)
def test_complete(tmp_path, whole, converted, final, complete):
    folder = RunFolder(tmp_path)
    for path in [*(folder.hf_step(n) for n in converted), *([folder.final] if final else [])]:
        path.mkdir(parents=True)
        (path / "manifest.json").write_text("{}")
    assert Checkpoints(folder, "trl").complete(RUN, whole) is complete


@pytest.mark.parametrize(
    ("whole", "converted", "lost"),
    [
        ([], [], []),
        ([6, 8], [], []),
        ([8], [], [6]),
        ([8], [6], []),
        ([14], [6], [12]),
        ([6, 12, 18], [], []),
        ([20, 24], [12], [6, 18]),
    ],
)
def test_an_averaged_step_that_is_lost(tmp_path, whole, converted, lost):
    folder = RunFolder(tmp_path)
    for path in (folder.hf_step(n) for n in converted):
        path.mkdir(parents=True)
        (path / "manifest.json").write_text("{}")
    assert Checkpoints(folder, "trl").lost(RUN, whole) == lost


def test_an_earlier_submission_s_failures_do_not_count(tmp_path):
    folder = RunFolder(tmp_path)
    assert chain_state.attempts_of_chain(folder) == [] and Submitted.load(folder.jobs_json).jobs == ()
    state = ChainState("old", [attempt(0, 0)])
    state.save(folder)
    folder.jobs_json.write_text(json.dumps({"chain": "new", "jobs": [{"key": "train-1", "id": "9"}]}))
    assert chain_state.attempts_of_chain(folder) == []
    assert Submitted.load(folder.jobs_json).jobs[0].id == "9"
    state.chain = "new"
    state.save(folder)
    assert len(chain_state.attempts_of_chain(folder)) == 1


def test_tidy_keeps_what_is_averaged_and_the_newest_two(tmp_path):
    folder = RunFolder(tmp_path)
    steps = [3, 6, 8, 12, 15, 17, 19]
    for step in steps:
        folder.checkpoint(step).mkdir(parents=True)
    Checkpoints(folder, "trl").tidy(RUN, steps)
    (folder.checkpoints / ".gone_step_4").mkdir()  # a removal that was killed
    Checkpoints(folder, "trl").tidy(RUN, [6, 12, 17, 19])
    left = sorted(int(p.name[5:]) for p in folder.checkpoints.iterdir())
    assert left == [6, 12, 17, 19]


LINKS = {
    "data": {"size": 3, "mtime": 5, "blocks": "00"},
    "chain": "c",
    "attempts": [
        {"job": "7", "restart": 0, "began": 1.5, "from": 0, "to": 0},
        {"job": "8", "restart": 1, "began": 2.5, "from": 0, "to": 6, "code": 0, "ended": 3.5, "why": []},
        {"job": "9", "restart": 0, "began": 4.5, "from": 6},
    ],
    "save_seconds": 0.0,
    "bad_nodes": ["n3"],
}
JOBS = {
    "chain": "c",
    "submitted": "2026-01-31 18:00:00",
    "command": "train.py",
    "recipe": json.loads(json.dumps(RUN.as_dict())),
    "jobs": [
        {"key": "train-1", "id": "7", "name": "omr", "after": [], "log": "/l/%j.log"},
        {"key": "train-2", "id": "8", "name": "omr", "after": [["afterany", "train-1"]], "log": "/l"},
    ],
    "earlier": [
        {
            "chain": "b",
            "submitted": "2026-01-30 18:00:00",
            "jobs": [{"key": "train-1", "id": "5", "name": "omr", "after": [], "log": "/l"}],
        }
    ],
}


def test_the_files_keep_their_form(tmp_path):
    """Links of a chain that is under way read what an earlier version of the toolkit wrote."""
    folder = RunFolder(tmp_path)
    folder.links_json.write_text(json.dumps(LINKS))
    ChainState.load(folder).save(folder)
    assert json.loads(folder.links_json.read_text()) == LINKS
    folder.jobs_json.write_text(json.dumps(JOBS))
    Submitted.load(folder.jobs_json).save(folder.jobs_json)
    assert json.loads(folder.jobs_json.read_text()) == JOBS and Submitted.load(folder.jobs_json).run == RUN


def test_what_is_not_known_is_left_out(tmp_path):
    folder = RunFolder(tmp_path)
    state = ChainState.load(folder)
    assert state == ChainState()
    state.save_seconds = 3.0
    state.save(folder)
    assert json.loads(folder.links_json.read_text()) == {"save_seconds": 3.0}
