"""Grading, kept answers, and what eval.json says; the answers themselves come from a tiny model."""

import json
import shutil

import pytest

from omr import files, manifest, recipe
from omr.errors import OmrError, RequestError
from omr.evaluation import stage
from omr.run import frozen
from omr.tiny import corpus
from omr.tiny.model import write_base
from omr.workspace import Workspace

RUN = recipe.run("tiny")

BOXED = [
    (r"The sum is \boxed{95}.", "95"),
    (r"\boxed{1} then \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
    (r"\boxed{{a}}", "{a}"),
    (r"\boxed{95", None),
    ("95", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "inside"), BOXED)
def test_the_last_box_is_the_answer(text, inside):
    assert stage.boxed(text) == inside


GRADED = [
    (r"\boxed{95}", "95", True),
    (r"\boxed{ 95 }", "95", True),
    (r"\boxed{95.0}", "95", True),
    (r"\boxed{0.5}", r"\frac{1}{2}", True),
    (r"\boxed{\dfrac{2}{4}}", r"\frac{1}{2}", True),
    (r"\boxed{x^2-1}", "(x-1)(x+1)", True),
    (r"\boxed{96}", "95", False),
    (r"\boxed{}", "95", False),
    (r"\boxed{\frac{}", "95", False),
    ("95", "95", False),
]


@pytest.mark.parametrize(("answer", "expected", "right"), GRADED)
def test_grading_is_by_value_and_needs_a_box(answer, expected, right):
    assert stage.right(answer, expected) is right


def test_tiny_asks_its_held_out_problems():
    asked = stage.questions(RUN, None, None)
    assert asked.source == stage.TINY
    assert list(asked.rows) == corpus.held_out()
    assert asked.max_tokens == stage.TINY_TOKENS
    assert asked.digest != stage.questions(RUN, None, 7).digest


def test_a_file_of_problems_is_read_line_by_line(tmp_path):
    path = tmp_path / "problems.jsonl"
    rows = [{"problem": "a\u2028b", "expected_answer": 3, "more": 1}, {"input": "x", "expected_answer": "y"}]
    path.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    asked = stage.questions(recipe.run("7b"), path, None)
    assert asked.rows == (
        {"problem": "a\u2028b", "expected_answer": "3"},
        {"input": "x", "expected_answer": "y"},
    )
    assert asked.max_tokens == 32_768


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has no problems"),
        ("{}", "line 1 has not"),
        ('{"problem": "x", "expected_answer": "y"}\n{"problem": "x"}', "line 2 has not"),
        ('{"problem": 3, "expected_answer": "y"}', "line 1 has not"),
        ("[1]", "line 1 has not"),
        ("{", "line 1 has not"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path, text, told):
    path = tmp_path / "problems.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RequestError, match=told):
        stage.questions(RUN, path, None)


def test_a_real_model_needs_problems():
    with pytest.raises(RequestError, match="PROBLEMS is not set"):
        stage.questions(recipe.run("7b"), None, None)


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
    return stage.Questions("three", tuple(corpus.held_out(3)), 6)


def make(workspace, asked, run=RUN, **options):
    models = stage.stations(run, workspace.run(run))
    return stage.make(run, workspace, asked, models, **options)


def test_an_unfinished_run_is_not_evaluated(tmp_path):
    with pytest.raises(RequestError, match="run make train MODEL=tiny ROUND=1 first"):
        stage.stations(RUN, Workspace(tmp_path).run(RUN))


def test_both_models_answer_once(trained, asked, monkeypatch):
    result, there = make(trained, asked)
    assert not there
    assert result["before"]["accuracy"] == 0
    assert result["after"]["problems"] == 3
    assert result["before"]["identity"] != result["after"]["identity"]
    kept = sorted((trained.run(RUN).root / "eval").iterdir())
    assert len(kept) == 2
    rows = [json.loads(line) for line in kept[0].read_text().splitlines()]
    assert [row["problem"] for row in rows] == [row["problem"] for row in asked.rows]
    assert {row["ended"] for row in rows} == {False}
    assert json.loads(trained.run(RUN).eval_json.read_text()) == result
    monkeypatch.setattr(stage, "evaluate", None)  # nothing is asked again
    assert make(trained, asked) == (result, True)
    assert [line.split()[0] for line in stage.table(result)[1:]] == ["before", "after"]


def test_a_killed_evaluation_goes_on_at_its_last_batch(trained, asked, monkeypatch):
    monkeypatch.setattr(stage, "BATCH", 1)
    result, _ = make(trained, asked)
    folder = trained.run(RUN)
    kept = next((folder.root / "eval").glob(f"{result['after']['identity'][:12]}*"))
    whole = kept.read_text()
    lines = whole.splitlines(keepends=True)
    kept.write_text("".join(lines[:2]) + lines[2][:20])
    folder.eval_json.unlink()
    counted = []
    generate = stage.generate
    monkeypatch.setattr(stage, "generate", lambda *args: counted.append(len(args[1])) or generate(*args))
    again, _ = make(trained, asked)
    assert counted == [1]
    assert again == result
    assert kept.read_text() == whole
    make(trained, asked, force=True)
    assert counted == [1, 3, 3]


def test_round_2_begins_where_round_1_ended(trained, asked, monkeypatch):
    first, _ = make(trained, asked)
    second = recipe.run("tiny", 2)
    folder = trained.run(second)
    station(folder.final, seed=2)
    base = trained.run(RUN).final
    files.write_json(folder.run_json, {"request": {"base": {"path": str(base)}}})
    told = []
    result, _ = make(trained, asked, run=second, say=told.append)
    assert result["before"] == first["after"]
    assert told == ["before: as round 1 ended, 0.000"]
    # Other weights at the same place are asked themselves.
    shutil.rmtree(base)
    station(base, seed=3)
    result, _ = make(trained, asked, run=second)
    assert result["before"]["identity"] == frozen.identity(base) != first["after"]["identity"]


def test_any_model_folder_may_be_asked(trained, asked, tmp_path):
    folder = tmp_path / "other"
    write_base(folder, seed=4)
    result, _ = stage.make(RUN, trained, asked, {"alone": folder})
    assert result["alone"]["problems"] == 3
    assert not trained.run(RUN).eval_json.exists()
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(OmrError, match="there is no model"):
        stage.make(RUN, trained, asked, {"alone": empty})


def test_an_answer_stops_at_any_of_the_model_s_ends(trained, asked):
    from transformers import AutoTokenizer

    folder = trained.model("tiny")
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    ((text, ended),) = next(stage.generate(folder, ["1+1?"], 4, tokenizer, gpu=False))
    assert text
    assert not ended
    config = json.loads((folder / "generation_config.json").read_text())
    config["eos_token_id"] = list(range(512))
    (folder / "generation_config.json").write_text(json.dumps(config))
    assert next(stage.generate(folder, ["1+1?"], 4, tokenizer, gpu=False)) == [("", True)]
