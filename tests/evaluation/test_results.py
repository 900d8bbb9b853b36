"""What is counted of an evaluation, as eval.json has it and as the terminal shows it."""

import json

import pytest

from omr.evaluation import results
from omr.evaluation.grading.rules import Outcome, Verdict
from omr.evaluation.problems import Problem
from omr.evaluation.request import Sampling
from omr.evaluation.results import ALL, Difference
from tests.evaluation.kit import found

DIFFERENT = Verdict(Outcome.RIGHT, Outcome.WRONG)


def test_the_table_stands_beside_the_published_one():
    result = found()
    rows = results.table(result, "7b")
    assert [row[:2] for row in rows] == [
        *(["after", "aime24"], ["", "  published"], ["after", "aime25"], ["", "  published"], ["after", ALL])
    ]
    header = results.header(result)
    assert header == [
        "",
        "",
        "problems",
        "pass@1",
        "±",
        "majority",
        "pass@64",
        "no answer",
        "cut",
        "tokens",
        "exact",
    ]
    assert rows[0] == ["after", "aime24", "2", "75.0", "25.0", "100.0", "100.0", "25.0", "0.0", "100", "75.0"]
    # (0.75 - 0.748) / (sqrt(2) 0.25), (0.75 - 0.612) / (sqrt(2) 0.25)
    assert rows[1] == ["", "  published", "", "74.8", "", "80.0", "", "", "", "", "+0.0 standard errors"]
    assert rows[3][-1] == "+0.4 standard errors"


def test_of_genselect_a_majority_is_published_and_of_others_nothing():
    rows = results.table(found(mode="genselect"), "7b")
    assert rows[1] == ["", "  published", "", "", "", "86.7", "", "", "", "", ""]
    assert not any("published" in row[1] for row in results.table(found(), "tiny"))
    assert not any("published" in row[1] for row in results.table(found("own.jsonl"), "7b"))


def test_one_subset_is_all_there_is():
    assert [row[1] for row in results.table(found("x", ("easy",)), "7b")] == ["easy"]


def test_what_the_verdicts_do_not_agree_on_is_told_and_the_rest_counted():
    problem = Problem(r"\frac{\pi}{4}", "?")
    one = Difference.of(3, 5, problem, "0.785398\n" + "x" * 1000, DIFFERENT)
    assert len(one.given) == results.LONGEST_KEPT
    lines = list(results.notes(found(differences=[one] * 7)))
    assert lines[0].startswith(r"after: 0.785398 xxx")
    assert lines[0].endswith(
        r"… for \frac{\pi}{4} (problem 3, sample 5): right as published, wrong by exact value"
    )
    assert len(lines) == results.DIFFERENCES_SHOWN + 1
    assert lines[-1] == "after: 2 more of these; eval/x has all verdicts"
    assert len(found(differences=[one] * 300).models["after"].differences) == results.DIFFERENCES_KEPT


def test_eval_json_has_a_result_for_each_mode(tmp_path):
    path = tmp_path / "eval.json"
    assert results.read(path) == {}
    cot, again = found(), found(sampling=Sampling(2, 0.5, 1.0, 100))
    results.write(path, cot)
    results.write(path, found(mode="tir"))
    results.write(path, again)
    assert results.read(path) == {"cot": again, "tir": found(mode="tir")}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"cot": 3}',
        '{"cot": {}}',
        '{"before": {"accuracy": 1}}',
        '{"cot": {"inputs": 1}}',
    ],
)
def test_a_file_of_another_form_is_no_result(tmp_path, text):
    path = tmp_path / "eval.json"
    path.write_text(text)
    assert results.read(path) == {}
    results.write(path, found())
    assert json.loads(path.read_text())["cot"]["benchmark"] == "comp-math-24-25"


def test_a_damaged_mode_takes_no_other_with_it(tmp_path):
    path = tmp_path / "eval.json"
    results.write(path, found())
    results.write(path, found(mode="tir"))
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "cot": {"benchmark": 7}}))
    assert results.read(path) == {"tir": found(mode="tir")}
    results.write(path, found(mode="genselect"))
    assert set(results.read(path)) == {"tir", "genselect"}
