"""What the starts of a chain's jobs know of each other: progress, completeness, when a chain is stopped."""

import json

import pytest

from omr import recipe
from omr.request import TrainRequest
from omr.run import events
from omr.workspace import RunFolder

RUN = recipe.run("tiny", 1, steps=24, name="x")  # averages 6, 12, 18, 24


def attempt(began, to=None, job="7"):
    return {"job": job, "from": began, **({"to": to} if to is not None else {})}


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
def test_fruitless(attempts, now, count):
    assert len(events.fruitless(attempts, now)) == count


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
    found = events.burning(attempts, now, starts_now)
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
    assert events.complete(RUN, folder, whole) is complete


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
    assert events.lost(RUN, folder, whole) == lost


def test_an_earlier_submission_s_failures_do_not_count(tmp_path):
    folder = RunFolder(tmp_path)
    assert events.attempts(folder) == [] and events.jobs(folder) == []
    events.note(folder, chain="old", attempts=[attempt(0, 0)])
    folder.jobs_json.write_text(json.dumps({"chain": "new", "jobs": [{"key": "train-1", "id": "9"}]}))
    assert events.attempts(folder) == [] and events.jobs(folder)[0]["id"] == "9"
    events.note(folder, chain="new")
    assert len(events.attempts(folder)) == 1


def test_tidy_keeps_what_is_averaged_and_the_newest_two(tmp_path):
    folder = RunFolder(tmp_path)
    steps = [3, 6, 8, 12, 15, 17, 19]
    for step in steps:
        folder.checkpoint(step).mkdir(parents=True)
    events.tidy(RUN, folder, steps)
    (folder.checkpoints / ".gone_step_4").mkdir()  # a removal that was killed
    events.tidy(RUN, folder, [6, 12, 17, 19])
    left = sorted(int(p.name[5:]) for p in folder.checkpoints.iterdir())
    assert left == [6, 12, 17, 19]


def test_the_story_has_a_line_for_each_event(tmp_path, capsys):
    given = events.Attempt(TrainRequest.of(RUN), RunFolder(tmp_path), None, "7", 1, "2 of 4", None)
    given.say("trains on from step 8")
    line = (tmp_path / "story.txt").read_text()
    assert line.endswith(" link 2 of 4, job 7, start 2: trains on from step 8\n")
    assert capsys.readouterr().out == "trains on from step 8\n"
