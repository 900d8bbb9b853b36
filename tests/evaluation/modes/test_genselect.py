"""Which solutions are compared, and which of them a judgment names."""

import pytest

from omr.evaluation.modes import genselect
from omr.evaluation.modes.genselect import (
    LONGEST_SUMMARY,
    MOST_SOLUTIONS,
    Candidate,
    candidates,
    fallback,
    judgment,
    summary,
)


def solutions(*answers):
    return [Candidate(number, answer, f"{number}: {answer}") for number, answer in enumerate(answers)]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Judgment: 1", 1),
        ("Judgement: 0.", 0),
        ("Judgment: 0 … no.\nJudgment: 2", 2),
        ("Judgment: 3", None),
        ("Judgment: 2 or Judgment: 3", None),
        ("Judgment: [1]", None),
        ("judgment: 1", None),
        ("Judgment: one", None),
        ("", None),
        ("Judgment: " + "9" * 5000, None),
    ],
)
def test_a_judgment_is_read_strictly(text, number):
    assert judgment(text, 3) == number


def test_no_choice_among_equal_answers():
    assert candidates("p", solutions("7", "7", "7"), 0) == solutions("7")
    assert candidates("p", solutions(None, None), 5) == solutions(None)


def test_every_answer_is_there_and_the_frequent_ones_more_often():
    asked = solutions(*["7"] * 40, *["8"] * 20, "9", None, *["10"] * 2)
    counts = dict.fromkeys(["7", "8", "9", None, "10"], 0)
    for seed in range(50):
        drawn = candidates("p", asked, seed)
        assert len(drawn) <= MOST_SOLUTIONS and len({one.number for one in drawn}) == len(drawn)
        for one in drawn:
            counts[one.given] += 1
    # Answers in order of shares: 40, 20, 2, 1, 1 of 64, of 16 solutions.
    assert 9 <= counts["7"] / 50 <= 10 and 4.2 <= counts["8"] / 50 <= 5.1
    # An answer that is drawn late may find the places taken, as in the published draw.
    assert all(30 <= counts[answer] <= 60 for answer in ("9", None, "10"))


def test_a_draw_depends_on_problem_and_seed_alone():
    asked = solutions(*"7788991")
    assert candidates("p", asked, 3) == candidates("p", asked[::-1], 3)
    drawn = [[one.number for one in candidates(*key)] for key in (("p", asked, n) for n in range(9))]
    assert len(set(map(tuple, drawn))) > 5
    assert candidates("p", asked, 3) != candidates("q", asked, 3)
    assert {fallback("p", 3, seed) for seed in range(20)} == {0, 1, 2}
    assert fallback("p", 3, 1) == fallback("p", 3, 1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<think>\nlong\n</think>\n\nSo 7.", "\n\nSo 7."),
        ("<think>a</think>b</think>c", "c"),
        ("short", "short"),
        ("<think>cut off", "cut off"),
        ("x" * 9_000, "x" * LONGEST_SUMMARY),
        ("</think>" + "ab" * 4_000, "ab" * (LONGEST_SUMMARY // 2)),
        ("\n\n".join(["s" * 600] * 20), "\n\n".join(["s" * 600] * 10)[-LONGEST_SUMMARY:]),
    ],
)
def test_a_solution_is_shown_by_what_it_sums_up(text, told):
    assert summary(text) == told
    assert genselect.MOST_SOLUTIONS == 16
