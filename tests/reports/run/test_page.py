"""The page about a run: what it says at each stage of the run, and that it fetches and executes nothing."""

import json
import re

import pytest

from omr import manifest, recipe
from omr.errors import RequestError
from omr.evaluation import results
from omr.reports import pages, run_page
from omr.request import TrainRequest
from omr.run import frozen
from omr.workspace import Workspace
from tests.evaluation.kit import found

SPLITS = {"cot": {"read": 12, "kept": 8, "dropped": {"source": 3, "pass rate <i>": 1}, "rejected": {}}}


@pytest.fixture
def run(tmp_path):
    """A run that was asked for, with a model and data that are finished."""
    workspace, run = Workspace(tmp_path), recipe.run("tiny", steps=8, name="page")
    manifest_files = {
        "model.safetensors": {"size": 2, "sha256": "ab12"},
        "config.json": {"size": 2, "sha256": "cd"},
    }
    workspace.model("tiny").mkdir(parents=True)
    manifest.write(workspace.model("tiny"), {}, files=manifest_files)
    data = workspace.data("tiny", "round1")
    data.parent.mkdir()
    data.write_text("row\n")
    manifest.write(data, {"seed": 5}, sha256="11ee", size=4, rows=8, splits=SPLITS)
    folder = workspace.run(run)
    frozen.freeze(folder, frozen.inputs(TrainRequest.of(run), workspace))
    return run, folder


def _finish(folder):
    steps = [{"step": n, "loss": 3.0 / n, "lr": n / 1000} for n in range(1, 9)]
    folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in steps) + '{"step": 9, "lo')
    results.write(folder.eval_json, found("tiny", ("easy", "hard")))
    folder.final.mkdir()
    manifest.write(
        folder.final, {"steps": [2, 4, 6, 8]}, files={"model.safetensors": {"size": 2, "sha256": "fe98"}}
    )


def test_an_unfinished_run_says_how_far_it_is(run):
    run, folder = run
    folder.metrics.write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 2.0}\n')
    assert run_page.lead(folder) == "At step 2 of 8, not finished."
    assert run_page.write(run, folder)
    text = folder.report.read_text()
    assert "Not evaluated yet: make eval." in text
    assert "tiny-round1.jsonl: 8 rows, 4 B. Training sees 512 rows, each 64.00 times." in text


def test_a_finished_run_has_everything(run):
    run, folder = run
    _finish(folder)
    assert run_page.write(run, folder)
    text = folder.report.read_text()
    assert "Accuracy on 4 problems: 0.750 after." in text
    assert "Accuracy, cot" in text and "64 samples a problem, temperature 0.6" in text
    assert "3 source, 1 pass rate &lt;i&gt;" in text and "pass rate <i>" not in text
    # Loss and rate, and no engine said how fast it was; accuracy with its error, majority by samples.
    assert text.count("<svg") == 4
    for value in ("fe98", "11ee", "data seed"):
        assert value in text


def test_the_page_is_self_contained(run):
    run, folder = run
    _finish(folder)
    run_page.write(run, folder)
    text = folder.report.read_text()
    assert "<script" not in text
    # Names of XML vocabularies look like addresses; nothing is loaded from one.
    assert not re.findall(r"(?:src|href)=\"(?!#)[^\"]*\"", re.sub(r'xmlns(:\w+)?="[^"]*"', "", text))


def test_it_is_written_again_only_when_something_changed(run):
    run, folder = run
    assert run_page.write(run, folder)
    assert not run_page.write(run, folder)
    assert run_page.write(run, folder, force=True)
    before = folder.report.read_bytes()
    assert run_page.write(run, folder, force=True) and folder.report.read_bytes() == before
    _finish(folder)
    assert run_page.write(run, folder)
    assert not run_page.write(run, folder)


def test_no_run_no_report(tmp_path):
    run = recipe.run("tiny")
    with pytest.raises(
        RequestError, match="there is no such run yet; run make train MODEL=tiny ROUND=1 first"
    ):
        run_page.write(run, Workspace(tmp_path).run(run))


def test_histogram():
    figure = pages.histogram({"cot": [1, 2], "tir": [2, 1]}, ["0", "10", "20"], "tokens", "rows", "lengths")
    assert figure.svg.startswith("<svg") and "cot" in figure.svg
