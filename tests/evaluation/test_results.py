"""Answers as they are kept, and what is counted of them."""

import json
from pathlib import Path

import pytest

from omr.evaluation import results
from omr.evaluation.grading.rules import Outcome, Verdict
from omr.evaluation.problems import Problem
from omr.evaluation.results import EvalInputs, EvalResult, KeptAnswer

RIGHT, WRONG, TIMEOUT = Outcome.RIGHT, Outcome.WRONG, Outcome.TIMEOUT


def answer(inside, expected, published, strict, ended=True):
    return KeptAnswer(Problem(expected, "?"), rf"\boxed{{{inside}}}", ended, Verdict(published, strict))


ANSWERS = [
    answer("0.785398", r"\frac{\pi}{4}", RIGHT, WRONG),
    answer("7", "007", WRONG, RIGHT),
    answer("7", "7", RIGHT, RIGHT),
    answer("8", "7", WRONG, WRONG, ended=False),
    answer("9^{(9^9)}", "7", TIMEOUT, TIMEOUT),
    answer("x" * 1000, "7", RIGHT, TIMEOUT),
]


def found(answers=ANSWERS):
    result = results.model_result(answers, Path("m"), "id", Path("a.jsonl"))
    return EvalResult("six", EvalInputs("q", {"after": "id"}, "grading 1"), {"after": result})


def test_both_verdicts_are_counted_and_what_differs_is_listed():
    result = found().models["after"]
    assert (result.correct, result.strict, result.timeouts, result.problems, result.ended) == (3, 2, 1, 6, 5)
    assert result.accuracy == 0.5
    assert [(d.number, d.published, d.strict) for d in result.differences] == [
        *((1, "right", "wrong"), (2, "wrong", "right"), (6, "right", "timeout"))
    ]
    assert len(result.differences[2].given) == results.LONGEST_KEPT


def test_the_table_tells_the_first_differences_and_how_many_more_there_are():
    header, row, first, *_, last = results.table(found())
    assert header.split() == ["accuracy", "correct", "problems", "ended", "strict", "differ", "timeout"]
    assert row.split() == ["after", "0.500", "3", "6", "5", "2", "3", "1"]
    assert first == (
        r"after: 0.785398 for \frac{\pi}{4} (problem 1): right as published, wrong by exact value"
    )
    assert len(last) < 160
    many = results.table(found([ANSWERS[0]] * 7))
    assert len(many) == 2 + results.DIFFERENCES_SHOWN + 1
    assert many[-1] == "after: 2 more of these; a.jsonl has both verdicts on each answer"


def test_a_result_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "eval.json"
    found().write(path)
    assert results.read(path) == found()


def test_a_verdict_counts_with_the_grader_that_gave_it(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(answer.as_line("grading 1") for answer in ANSWERS))
    assert results.read_answers(path, "grading 1") == ANSWERS
    assert {kept.verdict for kept in results.read_answers(path, "grading 2")} == {None}
    path.write_text("".join(answer.as_line() for answer in ANSWERS))
    assert {kept.verdict for kept in results.read_answers(path, "grading 1")} == {None}


@pytest.mark.parametrize("line", ["", "{", "[]", "3", "{}", '{"answer": "x"}', '{"grader": "grading 1"}'])
def test_answers_are_read_up_to_the_first_that_is_not_whole(tmp_path, line):
    path = tmp_path / "answers.jsonl"
    path.write_text(ANSWERS[0].as_line("grading 1") + line + "\n" + ANSWERS[1].as_line("grading 1"))
    assert results.read_answers(path, "grading 1") == ANSWERS[:1]


def test_a_line_of_an_older_version_is_graded_again(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text(
        json.dumps({"answer": "a", "ended": True, "right": True, "problem": "?", "expected_answer": "7"})
    )
    assert results.read_answers(path, "grading 1") == [KeptAnswer(Problem("7", "?"), "a", True)]
