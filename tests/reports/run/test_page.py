"""The page about a run: what it says at each stage of the run, and that it fetches and executes nothing."""

import json
import re
import time

import pytest

from omr import recipe
from omr.errors import OmrError, RequestError
from omr.reports.run import page
from omr.workspace import Workspace
from tests.reports import kit


@pytest.fixture
def folder(tmp_path):
    """A run that was asked for, with a model and data that are finished."""
    return kit.begin(tmp_path)[1]


def write(folder, **more):
    """Whether the page was written anew."""
    return page.write(page.look(folder), **more)


def text_of(folder):
    write(folder, force=True)
    return folder.report.read_text()


def test_an_unfinished_run_says_how_far_it_is(folder):
    folder.metrics.write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 2.0}\n')
    assert page.lead(page.look(folder)) == "At step 2 of 8, not finished."
    text = text_of(folder)
    assert "Not evaluated yet: make eval MODEL=tiny ROUND=1 NAME=page STEPS=8." in text
    assert "tiny-round1.jsonl: 13 rows, 4 B. Training sees 512 rows, each 39.38 times." in text
    assert "Not counted yet: make data-report DATASET=tiny ROUND=1 MODES=cot,tir SEED=5." in text


def test_a_run_that_has_only_begun_says_what_makes_the_rest(folder):
    text = text_of(folder)
    assert "No step was written down yet: make train." in text
    assert "The event log" not in text and "<svg class" not in text


def test_a_finished_run_has_everything(folder):
    kit.finish(folder)
    text = text_of(folder)
    assert "Accuracy on 4 problems: 0.750 after." in text
    assert "Accuracy, cot" in text and "64 samples a problem, temperature 0.6" in text
    assert "− pass rate &lt;i&gt;" in text and "pass rate <i>" not in text
    # Loss and rate, and no engine said how fast it was; accuracy with its error, majority by samples.
    for title in ("Training loss", "Learning rate", "Checkpoints", "pass@1 (%)", "majority@k (%)"):
        assert f"<b>{title}" in text
    assert "Gradient norm" not in text and "Seconds per step" not in text
    for value in (
        "fe98",
        "11ee",
        "data seed",
        "&lt;|i&gt;",
        "make train MODEL=tiny ROUND=1 NAME=page STEPS=8",
    ):
        assert value in text


def test_the_page_is_self_contained(folder):
    kit.finish(folder)
    text = text_of(folder)
    assert "<script" not in text and "@import" not in text and "url(" not in text
    links = set(re.findall(r"(?:src|href)=\"([^\"]*)\"", text))
    assert {link for link in links if link[0] != "#"} == {"data:,"}
    (folder.root.parents[2] / "report.html").touch()  # the workspace's page
    assert write(folder) and '<a href="../../../report.html">' in folder.report.read_text()


def test_it_is_written_again_only_when_something_changed(folder):
    assert write(folder)
    assert not write(folder)
    assert write(folder, force=True)
    before = folder.report.read_bytes()
    assert write(folder, force=True) and folder.report.read_bytes() == before
    kit.finish(folder)
    assert write(folder)
    assert not write(folder)
    kit.log(folder, 0, "cancelled by make cancel: jobs 7")
    assert write(folder) and not write(folder)
    folder.checkpoint(2).rmdir()
    assert write(folder) and "removed since" in folder.report.read_text()


def test_no_run_no_report(tmp_path):
    run = recipe.run("tiny")
    with pytest.raises(
        RequestError, match="there is no such run yet; run make train MODEL=tiny ROUND=1 first"
    ):
        page.need(run, Workspace(tmp_path).run(run))


def test_a_data_manifest_that_is_gone_leaves_a_sentence(folder):
    found = page.look(folder)
    found.began.data.path.with_suffix(".manifest.json").unlink()
    assert "What was left out of it is not known here any more: make data DATASET=tiny ROUND=1" in text_of(
        folder
    )


@pytest.mark.parametrize(
    "values",
    [
        {"splits": {"cot": {}}},
        {"splits": {"cot": {"read": "9", "kept": 8, "dropped": {}, "rejected": {}}}},
        {"splits": {"cot": {"read": 9, "kept": 8, "dropped": {"source": "1"}, "rejected": {}}}},
        {"inputs": {"modes": 5}},
        {"inputs": []},
    ],
)
def test_a_damaged_data_manifest_is_one_line(folder, values):
    file = page.look(folder).began.data.path.with_suffix(".manifest.json")
    file.write_text(json.dumps(values))
    with pytest.raises(OmrError, match=r"manifest\.json: is damaged .*; remove it and run the stage"):
        page.look(folder)
    file.unlink()
    assert text_of(folder)


def test_everything_that_files_say_is_escaped(tmp_path):
    _, folder = kit.begin(tmp_path)
    kit.finish(folder)
    kit.log(folder, 0, "link <b>1 of 2, job 7: trains from the start")
    kit.log(
        folder, 9, "link <b>1 of 2, job 7: left no new checkpoint; the engine ended with 1: </svg><script>"
    )
    values = json.loads(folder.run_json.read_text())
    folder.run_json.write_text(
        json.dumps({**values, "code": "<script>alert(1)</script>", "command": '"><b>'})
    )
    text = text_of(folder)
    assert "<script" not in text and "<b>1 of" not in text and '"><b>"' not in text
    assert "&lt;script&gt;alert(1)" in text and "link &lt;b&gt;1 of 2" in text


@pytest.mark.slow
def test_a_long_run_is_drawn_in_seconds_and_is_a_small_page(tmp_path):
    _, folder = kit.begin(tmp_path, steps=30_000)
    kit.long_chain(folder)
    began = time.monotonic()
    write(folder)
    assert time.monotonic() - began < 30  # a second, on a quiet machine
    assert folder.report.stat().st_size < 2_000_000
    text = folder.report.read_text()
    assert "24,150 steps in 400 columns" in text and "200 starts of 200 jobs" in text
    # No extreme is lost in a column: one step of 24,150 had a loss of 9.
    assert "Training loss (nats per trained token); 1 above 3, up to 9.351" in text
    for key in ("killed: 39", "requeued by Slurm: 28", "resumed from a checkpoint: 199"):
        assert key in text
    assert "The last 20 of 67; story.txt has every one." in text


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min"), (273_600, "3 d 4 h")],
)
def test_durations(seconds, told):
    assert page.duration(seconds) == told
