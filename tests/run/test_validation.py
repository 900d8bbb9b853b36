"""The rows that are held out of an SFT file, as its manifest tells them."""

import contextlib
import json
from pathlib import Path

import pytest

from omr import recipe
from omr.errors import OmrError, RequestError
from omr.files import sha256, write_json
from omr.run import frozen, validation
from omr.run.frozen import BaseModel, FrozenRun, TrainingData
from omr.run.validation import ValidationFile
from omr.workspace import RunFolder, manifest_of

FACTS = {"sha256": "ab", "size": 9, "rows": 2}


def written(path, inputs=None, splits=None):
    """An SFT file of which the manifest alone is there."""
    told = {} if splits is None else {"validation": {"problems": 1, "splits": splits}}
    path.write_text("{}\n")
    write_json(manifest_of(path), {"inputs": inputs or {}, "size": 3, "sha256": "0", "rows": 1, **told})
    return path


def test_the_files_of_each_split(tmp_path):
    data = written(tmp_path / "tiny-round1-v0.2.jsonl", splits={"tir": FACTS, "cot": FACTS})
    folder = tmp_path / "tiny-round1-v0.2.validation"
    assert validation.files_of(data) == (
        ValidationFile("tir", folder / "tir.jsonl", "ab", 9, 2),
        ValidationFile("cot", folder / "cot.jsonl", "ab", 9, 2),
    )


def test_nothing_is_held_out(tmp_path):
    assert validation.files_of(tmp_path / "none.jsonl") == ()
    assert validation.files_of(written(tmp_path / "plain.jsonl")) == ()


@pytest.mark.parametrize(
    "splits", [None, {}, 5, {"cot": 5}, {"cot": {"rows": 1}}, {"cot": {**FACTS, "rows": "2"}}]
)
def test_a_damaged_manifest(tmp_path, splits):
    data = written(tmp_path / "x.jsonl", {"validation": {"share": 0.1}}, splits)
    with pytest.raises(
        OmrError, match=r"x\.manifest\.json: (is damaged .*make data FORCE=1|has no validation)"
    ):
        validation.files_of(data)


@pytest.mark.parametrize(
    ("said", "holds", "told"),
    [
        (None, {"share": 0.01}, None),
        ("0.01", {"share": 0.01}, None),
        ("0.01", {"share": 0.01, "told_by": "ab"}, None),
        (".010", {"share": 0.01}, None),
        ("0.01", None, "holds out no problem; run make data VALIDATION=0.01 NAME="),
        ("0.01", {"share": 0.02}, "holds out other problems"),
        ("mine.jsonl", {"problems": "the hash"}, None),
        ("mine.jsonl", {"problems": "ab"}, "holds out other problems"),
        ("gone.jsonl", {"problems": "ab"}, "holds out other problems"),
        ("some", None, "holds out no problem"),
    ],
)
def test_a_training_is_not_asked_for_other_held_out_problems(tmp_path, monkeypatch, said, holds, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.jsonl").write_text("{}")
    if said:
        monkeypatch.setenv("VALIDATION", said)
    if holds == {"problems": "the hash"}:
        holds = {"problems": sha256(tmp_path / "mine.jsonl")}
    made = {"inputs": {"validation": holds}, "validation": {}} if holds else {"inputs": {}}
    with pytest.raises(RequestError, match=told) if told else contextlib.nullcontext():
        validation.refuse_other(Path("/data/x.jsonl"), made)


A, B = {"share": 0.01}, {"share": 0.02}


@pytest.mark.parametrize(
    ("one", "other", "does"),
    [
        (None, None, True),
        (A, None, True),
        (None, A, False),
        (A, A, True),
        (B, A, True),
        (A, B, False),
        ({"problems": "ab"}, {"problems": "ab"}, True),
        ({"problems": "ab"}, {"problems": "cd"}, False),
        (B, {"problems": "ab"}, False),
        ({"problems": "ab"}, A, False),
    ],
)
def test_one_file_holds_out_all_that_another_does(one, other, does):
    inputs = [{"validation": value} if value else {} for value in (one, other)]
    assert validation.covers(*inputs) is does


def second_round(tmp_path, first_inputs, second_inputs):
    """Round 2 of data with these inputs, from a round 1 of others."""
    folder = RunFolder(tmp_path / "round1")
    began = []
    for number, inputs in ((1, first_inputs), (2, second_inputs)):
        data = written(tmp_path / f"{number}.jsonl", inputs, {"cot": FACTS} if inputs else None)
        base = BaseModel(folder.final, "0")
        held_out = validation.files_of(data)
        run = recipe.run("tiny", number, None if number == 1 else "recommended")
        began.append(FrozenRun(run, "trl", base, TrainingData(data, "0", 3, 1, held_out), None, None))
    frozen.freeze(folder, began[0])
    return began[1]


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ({}, {"validation": A}, True),
        ({"validation": A}, {"validation": A}, False),
        ({"validation": A}, {"validation": B}, True),
        ({}, {}, False),
    ],
)
def test_a_second_round_whose_first_knows_the_problems(tmp_path, first, second, told):
    said = frozen.knows_held_out(second_round(tmp_path, first, second))
    assert (said is not None) is told
    assert not told or said.startswith("tiny round1 may have been trained on problems that 2.jsonl holds out")


def test_data_that_was_made_anew_since_tells_nothing_of_the_training(tmp_path):
    began = second_round(tmp_path, {"validation": A}, {"validation": A})
    first = manifest_of(tmp_path / "1.jsonl")
    write_json(first, {**json.loads(first.read_text()), "sha256": "another"})
    assert "was made anew since: whether it was trained on" in frozen.knows_held_out(began)


def test_what_is_gone_tells_nothing(tmp_path):
    began = second_round(tmp_path, {}, {"validation": A})
    manifest_of(Path(tmp_path / "1.jsonl")).unlink()
    assert frozen.knows_held_out(began) is None


def test_run_json_holds_the_rows(tmp_path):
    began = second_round(tmp_path, {"validation": A}, {"validation": A})
    folder = RunFolder(tmp_path / "round2")
    frozen.freeze(folder, began)
    assert frozen.read(folder).data.validation == began.data.validation
    request = json.loads((tmp_path / "round1" / "run.json").read_text())["request"]
    assert request["data"]["validation"][0]["split"] == "cot"


def test_losses_that_still_hold():
    held_out = (ValidationFile("cot", Path("/cot.jsonl"), "ab", 1, 1),)
    losses = {"final": {"val_loss": 0.5}, "step_4": {"val_loss": 0.6}, "step_8": {"val_loss": 0.7}}
    identities = {"final": "f", "step_4": "four", "step_8": "eight"}
    found = validation.ModelLosses(validation.digest_of(held_out), "float32", identities, losses)
    models = {"final": "f", "step_4": "another", "step_8": "eight"}
    assert validation.current(found, held_out, models) == {n: losses[n] for n in ("final", "step_8")}
    assert validation.current(found, held_out[:0], models) == {}
    assert validation.current(None, held_out, models) == {}
