"""What `make status` says of a run: with Slurm's answer, without it, before it begins."""

import json

import pytest

from omr import recipe
from omr.cluster import slurm, status
from omr.cluster.slurm import Queued
from omr.workspace import Workspace

RUN = recipe.run("tiny", 1, steps=24, name="x")


@pytest.fixture
def folder(tmp_path):
    """A run in the middle: one link done, one running, at step 10 of 24."""
    made = Workspace(tmp_path).run(RUN)
    made.root.mkdir(parents=True)
    jobs = [("train-1", "7"), ("train-2", "8"), ("convert", "9"), ("average", "10")]
    listed = [{"key": key, "id": number} for key, number in jobs]
    made.jobs_json.write_text(json.dumps({"chain": "c", "submitted": "now", "jobs": listed}))
    attempts = [{"job": "7", "restart": 0, "from": 0, "to": 8}, {"job": "8", "restart": 0, "from": 8}]
    made.links_json.write_text(json.dumps({"chain": "c", "attempts": attempts, "save_seconds": 5.0}))
    # The second link began 100 s after the first ended: that gap is no step.
    times = [*range(100, 116, 2), *range(214, 218, 2)]
    rows = [{"step": i + 1, "time": t, "loss": 2 - i / 10, "tokens": 500} for i, t in enumerate(times)]
    made.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 11, "ti')
    made.checkpoint(8).mkdir(parents=True)
    made.event_log.write_text("a\nb\n")
    return made


def queued(**states):
    return {i: Queued(i, state, reason, "omr") for i, (state, reason) in states.items()}


def test_a_running_chain(folder, monkeypatch):
    answer = {
        "7": ("COMPLETED", "None"),
        "8": ("RUNNING", "None"),
        "9": ("PENDING", "Dependency"),
        "10": ("PENDING", "Dependency"),
    }
    monkeypatch.setattr(slurm, "jobs", lambda ids: queued(**answer))
    found = status.of(RUN, folder, limit_seconds=20)
    assert [(row.state, row.note) for row in found.rows] == [
        ("COMPLETED", "from step 0 to 8"),
        ("RUNNING", "from step 8"),
        ("PENDING", "Dependency"),
        ("PENDING", "Dependency"),
    ]
    assert (found.step, found.saved, found.step_seconds, found.tokens_per_second) == (10, 8, 2.0, 250.0)
    assert found.seconds_left == 28.0 and found.jobs_needed == 3  # half of 20 s is margin
    shown = "\n".join(status.lines(found))
    assert (
        "step 10 of 24 (42%), saved 8" in shown and "0:28 of training left" in shown and "gone" not in shown
    )


def test_without_an_answer_it_says_what_is_left(folder, monkeypatch):
    monkeypatch.setattr(slurm, "jobs", lambda ids: {})
    found = status.of(RUN, folder)
    assert [row.state for row in found.rows] == ["ENDED"] * 4 and not found.live
    assert "make train goes on from the last checkpoint" in "\n".join(status.lines(found))

    def down(ids):
        raise slurm.OmrError("squeue failed: Unable to contact slurm controller")

    monkeypatch.setattr(slurm, "jobs", down)
    assert "Unable to contact slurm controller" in "\n".join(status.lines(status.of(RUN, folder)))


def test_a_finished_run_and_one_that_never_began(folder, tmp_path):
    other = recipe.run("tiny", 1, steps=24, name="y")
    found = status.of(other, Workspace(tmp_path).run(other))
    assert found.note == "no chain was submitted" and found.step == 0
    folder.final.mkdir()
    (folder.final / "manifest.json").write_text("{}")
    folder.jobs_json.unlink()
    assert f"finished: {folder.final}" in "\n".join(status.lines(status.of(RUN, folder)))


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "0:05"), (309, "5:09"), (11_109, "3:05:09"), (183_900, "2 d 03:05")]
)
def test_clock(seconds, text):
    assert status.clock(seconds) == text


def test_a_line_of_the_log_moves_no_cursor(folder, monkeypatch):
    """An engine's last words are among them."""
    monkeypatch.setattr(slurm, "jobs", lambda ids: {})
    folder.event_log.write_text("a\n2026-01-31 12:00:00 the engine's error: \x1b[2Jx\n")
    assert status.of(RUN, folder).story == ["a", r"2026-01-31 12:00:00 the engine's error: \x1b[2Jx"]


def test_every_run_is_found_again(folder, tmp_path):
    for run in (RUN, recipe.run("7b", 2, "paper"), recipe.run("7b", 1)):
        place = Workspace(tmp_path).run(run)
        place.root.mkdir(parents=True, exist_ok=True)
        place.jobs_json.write_text("{}")
        request = {"recipe": json.loads(json.dumps(run.as_dict())), "engine": "trl"}
        place.run_json.write_text(json.dumps({"request": request}))
    assert [run.title for run, _ in status.runs(tmp_path)] == [
        "7b round1",
        "7b round2-paper",
        "tiny round1-x",
    ]
    assert all(run == RUN for run, _ in status.runs(tmp_path) if run.name)


def test_plain_stages_are_shown_until_they_are_done(tmp_path, monkeypatch):
    logs = tmp_path / "logs"
    logs.mkdir()
    for key, number in (("data-7b-round1", "3"), ("model-7b-round1", "4"), ("data", "5"), ("sqsh", "6")):
        (logs / f"{key}.jobs.json").write_text(json.dumps({"jobs": [{"key": key, "id": number}]}))
    answer = {
        "3": ("FAILED", "NonZeroExitCode"),
        "4": ("COMPLETED", "None"),
        "5": ("RUNNING", "None"),
    }
    monkeypatch.setattr(slurm, "jobs", lambda ids: queued(**answer))
    assert [(row.key, row.state, row.note) for row in status.stages(tmp_path)] == [
        ("data-7b-round1", "FAILED", "NonZeroExitCode"),
        ("data", "RUNNING", ""),
    ]


def test_a_damaged_run_is_a_line_and_the_others_are_shown(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(slurm, "jobs", lambda ids: {})
    values = json.loads(folder.jobs_json.read_text())
    folder.jobs_json.write_text(json.dumps({**values, "recipe": RUN.as_dict()}))
    for name, record in (("a", "jobs.json"), ("b", "links.json")):
        other = tmp_path / "runs" / "tiny" / f"round1-{name}"
        other.mkdir()
        (other / "jobs.json").write_text(folder.jobs_json.read_text())
        (other / record).write_text("[")
    lines = []
    [found] = status.of_all(tmp_path, None, lines.append)
    assert found.folder == folder.root
    assert ["jobs.json" in lines[0], "links.json" in lines[1]] == [True, True], lines
    assert all(line.startswith("note: ") and "\n" not in line for line in lines)
