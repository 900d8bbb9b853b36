"""Kept answers, and what eval.json says; the answers come from a tiny model."""

import json
import shutil
from pathlib import Path

import pytest

from omr import files, manifest, recipe
from omr.errors import OmrError, RequestError
from omr.evaluation import answers, grading, results, stage
from omr.evaluation.problems import Problem, ProblemSet
from omr.evaluation.stage import EvalRequest
from omr.run import frozen
from omr.tiny import corpus
from omr.tiny.model import write_base
from omr.workspace import Workspace

RUN = recipe.run("tiny")


def station(folder, seed=0):
    """A finished model folder: the tiny base, its end token that of a trained one."""
    write_base(folder, seed)
    listed = {p.name: {"size": p.stat().st_size, "sha256": files.sha256(p)} for p in folder.iterdir()}
    manifest.write(folder, {}, files=listed)


@pytest.fixture
def trained(tmp_path):
    """A workspace in which tiny's round 1 is finished (untrained, but nobody looks)."""
    workspace = Workspace(tmp_path)
    folder = workspace.run(RUN)
    station(workspace.model("tiny"))
    station(folder.final, seed=1)
    files.write_json(folder.run_json, {"request": {"base": {"path": str(workspace.model("tiny"))}}})
    return workspace


@pytest.fixture
def asked():
    return ProblemSet("three", tuple(Problem(**row) for row in corpus.held_out(3)), 6)


def make(workspace, asked, run=RUN, **options):
    """The result, and whether it was there already."""
    request = EvalRequest(run, asked, stage.models_of(run, workspace.run(run)))
    if not options.get("force") and (finished := stage.finished(request, workspace)):
        return finished, True
    return stage.evaluate(request, workspace, **options), False


def test_an_unfinished_run_is_not_evaluated(tmp_path):
    with pytest.raises(RequestError, match="run make train MODEL=tiny ROUND=1 first"):
        stage.models_of(RUN, Workspace(tmp_path).run(RUN))


@pytest.mark.slow
def test_both_models_answer_once(trained, asked, monkeypatch):
    result, there = make(trained, asked)
    assert not there
    assert result.models["before"].accuracy == 0
    assert result.models["after"].problems == 3
    assert result.models["before"].identity != result.models["after"].identity
    kept = sorted((trained.run(RUN).root / "eval").iterdir())
    assert len(kept) == 2
    rows = [json.loads(line) for line in kept[0].read_text().splitlines()]
    assert [row["problem"] for row in rows] == [problem.problem for problem in asked.problems]
    assert {row["ended"] for row in rows} == {False}
    assert json.loads(trained.run(RUN).eval_json.read_text()) == result.as_json()
    monkeypatch.setattr(answers, "generate", None)  # nothing is asked again
    assert make(trained, asked) == (result, True)
    assert [line.split()[0] for line in results.table(result)[1:]] == ["before", "after"]


def test_another_grader_grades_again_and_asks_nothing(trained, asked, monkeypatch):
    result, _ = make(trained, asked)
    kept = Path(result.models["after"].answers)
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    rows[0]["answer"] = "\\boxed{" + rows[0]["expected_answer"] + ".}"  # right for the published grader
    kept.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(answers, "generate", None)
    assert make(trained, asked) == (result, True)
    monkeypatch.setattr(grading, "VERSION", grading.VERSION + 1)
    again, there = make(trained, asked)
    assert not there
    assert again.models["after"].correct == result.models["after"].correct + 1
    assert json.loads(kept.read_text().splitlines()[0])["grader"] == grading.identity() == again.inputs.grader
    assert make(trained, asked) == (again, True)


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_at_its_last_batch(trained, asked, monkeypatch):
    monkeypatch.setattr(answers, "BATCH", 1)
    result, _ = make(trained, asked)
    folder = trained.run(RUN)
    kept = next((folder.root / "eval").glob(f"{result.models['after'].identity[:12]}*"))
    whole = kept.read_text()
    lines = whole.splitlines(keepends=True)
    kept.write_text("".join(lines[:2]) + lines[2][:20])
    folder.eval_json.unlink()
    counted = []
    generate = answers.generate
    monkeypatch.setattr(answers, "generate", lambda *args: counted.append(len(args[1])) or generate(*args))
    again, _ = make(trained, asked)
    assert counted == [1]
    assert again == result
    assert kept.read_text() == whole
    make(trained, asked, force=True)
    assert counted == [1, 3, 3]


@pytest.mark.slow
def test_round_2_begins_where_round_1_ended(trained, asked, monkeypatch):
    first, _ = make(trained, asked)
    second = recipe.run("tiny", 2)
    folder = trained.run(second)
    station(folder.final, seed=2)
    base = trained.run(RUN).final
    files.write_json(folder.run_json, {"request": {"base": {"path": str(base)}}})
    told = []
    result, _ = make(trained, asked, run=second, say=told.append)
    assert result.models["before"] == first.models["after"]
    assert told == ["before: as round 1 ended, 0.000"]
    # Other weights at the same place are asked themselves.
    shutil.rmtree(base)
    station(base, seed=3)
    result, _ = make(trained, asked, run=second)
    assert result.models["before"].identity == frozen.identity(base) != first.models["after"].identity


def test_any_model_folder_may_be_asked(trained, asked, tmp_path):
    folder = tmp_path / "other"
    write_base(folder, seed=4)
    result = stage.evaluate(EvalRequest(RUN, asked, {"alone": folder}), trained)
    assert result.models["alone"].problems == 3
    assert not trained.run(RUN).eval_json.exists()
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(OmrError, match="there is no model"):
        stage.evaluate(EvalRequest(RUN, asked, {"alone": empty}), trained)


def test_a_result_is_read_as_it_was_written(trained, asked):
    result, _ = make(trained, asked)
    assert results.read(trained.run(RUN).eval_json) == result
    assert list(result.as_json()) == ["questions", "inputs", "before", "after"]
    assert results.read(trained.root / "none.json") is None
    trained.run(RUN).eval_json.write_text("{}")
    assert results.read(trained.run(RUN).eval_json) is None
