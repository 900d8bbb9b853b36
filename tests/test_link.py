"""A link's judgement: what counts as progress, how large the margin is, what is kept, what an engine said."""

import pytest

from omr import link, recipe, story, supervise
from omr.workspace import RunFolder

RUN = recipe.run("tiny", 1, steps=24, name="x")  # averages 6, 12, 18, 24


def attempt(began, to=None):
    return {"from": began, **({"to": to} if to is not None else {})}


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
    assert story.fruitless(attempts, now) == count


@pytest.mark.parametrize(
    ("known", "left", "seconds"),
    [
        ({}, None, 600),
        ({}, 4 * 3600, 600),
        ({}, 1200, 300),
        ({"save_seconds": 0.5}, 4 * 3600, 60),
        ({"save_seconds": 200.0}, 4 * 3600, 430),
    ],
)
def test_margin_learns_from_the_saves(known, left, seconds):
    assert supervise.learned_margin(known, left) == seconds


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
    assert story.complete(RUN, folder, whole) is complete


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


def test_tidy_keeps_what_is_averaged_and_the_newest_two(tmp_path):
    folder = RunFolder(tmp_path)
    steps = [3, 6, 8, 12, 15, 17, 19]
    for step in steps:
        folder.checkpoint(step).mkdir(parents=True)
    link.tidy(RUN, folder, steps)
    left = sorted(int(p.name[5:]) for p in folder.checkpoints.iterdir())
    assert left == [6, 12, 17, 19]


def test_usr2_looks_again_and_term_ends(tmp_path, monkeypatch):
    times = iter([1000.0, 1000.0, 500.0])
    monkeypatch.setattr(supervise.slurm, "end_time", lambda job: next(times))
    monkeypatch.setattr(supervise.time, "time", lambda: 450.0)
    given = story.Attempt(RUN, RunFolder(tmp_path), None, "7", 0, "1 of 1", None, margin=100)
    ends = supervise._Ends(given, {})
    assert ends.deadline == 900 and supervise._reason([], ends) is None
    assert supervise._reason(["SIGUSR2"], ends) is None
    # Preempted: the end has moved.
    assert supervise._reason(["SIGUSR2"], ends) == "the allocation ends in 100 s"
    assert supervise._reason(["SIGTERM"], ends) == "Slurm ends this job"


def test_the_controller_may_be_away(tmp_path, monkeypatch):
    def away(job):
        raise supervise.OmrError("squeue failed")

    monkeypatch.setattr(supervise.slurm, "end_time", away)
    given = story.Attempt(RUN, RunFolder(tmp_path), None, "7", 0, "1 of 1", None)
    ends = supervise._Ends(given, {})
    assert ends.deadline is None and not ends.late()


def test_the_story_has_a_line_for_each_event(tmp_path, capsys):
    given = story.Attempt(RUN, RunFolder(tmp_path), None, "7", 1, "2 of 4", None)
    given.say("trains on from step 8")
    line = (tmp_path / "story.txt").read_text()
    assert line.endswith(" link 2 of 4, job 7, start 2: trains on from step 8\n")
    assert capsys.readouterr().out == "trains on from step 8\n"
