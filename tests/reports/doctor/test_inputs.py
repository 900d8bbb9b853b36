"""What a request starts from: data, base, run, final model; and that nobody else is at it."""

import pytest

from omr import manifest
from omr.cluster import slurm
from omr.errors import RequestError
from omr.reports.doctor import inputs
from omr.reports.doctor.machine import look
from omr.workspace import Workspace
from tests.cluster.conftest import done

from .kit import asked, held, row


def judged(target, root, **words):
    return look("inputs", inputs.checks, asked(target, root, **words))


@pytest.fixture
def ready(tmp_path, monkeypatch):
    """Base and data of 7b are there."""
    monkeypatch.setattr(inputs.preflight, "base", lambda base, run: None)
    monkeypatch.setattr(slurm, "available", lambda: False)
    space = asked("train", tmp_path).workspace
    done(space.model("7b"), files={"config.json": {"sha256": "0", "size": 1}})
    done(space.data("openmathreasoning", "round1"), rows=5_000_000, size=3, sha256="00ff")
    return space


def test_a_training_that_can_begin(ready, tmp_path):
    held(row(judged("train", tmp_path), "inputs"), "ok", "openmathreasoning-round1.jsonl, 5,000,000 rows")


def test_a_training_without_its_inputs(tmp_path):
    held(
        row(judged("train", tmp_path), "inputs"), "fix", "base model is not there", "run make model MODEL=7b"
    )
    done(asked("train", tmp_path).workspace.model("7b"), files={})
    held(row(judged("train", tmp_path), "inputs"), "fix", "training data is not there", "run make data")
    found = row(judged("train", tmp_path, round="2"), "inputs")
    held(found, "fix", "round 1's final model is not there", "run make train MODEL=7b ROUND=1")


def test_data_that_was_cut(ready, tmp_path):
    ready.data("openmathreasoning", "round1").write_text("{")
    held(row(judged("train", tmp_path), "inputs"), "fix", "has 1 bytes, its manifest says 3", "run make data")


def test_a_base_that_is_not_whole(ready, tmp_path, monkeypatch):
    def damaged(base, run):
        raise RequestError(f"{base.path}/config.json: is not the file that was made; make the model again")

    monkeypatch.setattr(inputs.preflight, "base", damaged)
    held(row(judged("train", tmp_path), "inputs"), "fix", "config.json", "make the model again")


def test_a_run_that_was_begun_otherwise(ready, tmp_path):
    request = asked("train", tmp_path)
    folder = ready.run(request.run)
    folder.root.mkdir(parents=True)
    inputs.frozen.freeze(folder, inputs.frozen.inputs(request.train, ready))
    held(row(judged("train", tmp_path), "inputs"), "ok", "rows")
    done_again = ready.data("openmathreasoning", "round1")
    manifest.write(done_again, {}, rows=5_000_000, size=3, sha256="11")
    held(row(judged("train", tmp_path), "inputs"), "fix", "begun with another request", "NAME=")


def test_a_chain_that_lives(ready, tmp_path, monkeypatch):
    live = slurm.Queued("9", "RUNNING", "", "omr", comment=str(ready.run(asked("train", tmp_path).run).root))
    monkeypatch.setattr(slurm, "available", lambda: True)
    monkeypatch.setattr(slurm, "queue", lambda: [live])
    held(row(judged("train", tmp_path), "inputs"), "fix", "has a chain already (jobs 9)", "make cancel")
    monkeypatch.setattr(slurm, "queue", lambda: [])
    held(row(judged("train", tmp_path), "chain"), "ok", "none of this run")


@pytest.mark.parametrize("target", ["eval", "serve", "ask", "publish"])
def test_a_final_model(tmp_path, target):
    held(
        row(judged(target, tmp_path), "final model"), "fix", "is not there", "run make train MODEL=7b ROUND=1"
    )
    request = asked(target, tmp_path)
    done(request.workspace.run(request.run).final)
    held(row(judged(target, tmp_path), "final model"), "ok", "final")
    held(row(judged("train", tmp_path), "final model"), "ok", "make train does nothing")


@pytest.mark.parametrize("target", ["report", "passport", "prune", "average"])
def test_a_run_that_never_was(tmp_path, target):
    held(row(judged(target, tmp_path), "inputs"), "fix", "was not trained", "run make train MODEL=7b")


def test_converted_steps(ready, tmp_path):
    request = asked("average", tmp_path)
    folder = ready.run(request.run)
    folder.root.mkdir(parents=True)
    inputs.frozen.freeze(folder, inputs.frozen.inputs(request.train, ready))
    found = row(judged("average", tmp_path), "converted steps")
    held(found, "fix", "step_7500 is not there", "run make train MODEL=7b ROUND=1")
    for step in request.run.schedule.averaged:
        done(folder.hf_step(step))
    held(row(judged("average", tmp_path), "converted steps"), "ok", "7,500, 15,000")


def test_the_file_of_a_data_report(tmp_path):
    path = Workspace(tmp_path).data("tiny", "round1", ("cot",), "mine")
    words = {"dataset": "tiny", "modes": "cot", "name": "mine"}
    found = row(judged("data-report", tmp_path, **words), "data")
    held(found, "fix", f"{path} is not there", "run make data")
    path.parent.mkdir()
    path.write_text("row\n")
    manifest.write(path, {}, sha256="ab", size=4, rows=1)
    held(row(judged("data-report", tmp_path, **words), "data"), "ok", "1 rows")
