"""Which answers are right, as the published evaluation has it and by exact value."""

import importlib.metadata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omr.evaluation.grading import rules
from omr.evaluation.grading.rules import Outcome, Verdict, boxed, published, strict
from tests.evaluation.grading.graded_pairs import PAIRS

BOXED = [
    (r"The sum is \boxed{95}.", "95"),
    (r"\boxed{1} then \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
    (r"\boxed{{a}}", "{a}"),
    (r"\boxed{}", ""),
    (r"\boxed{95", None),
    (r"\boxed{1} and \boxed{2", None),
    (r"\boxed{1} and \boxed 2", None),
    (r"\boxed {1}", None),
    (r"\boxed{1} \boxed", None),
    (r"\fbox{1}", None),
    (r"\boxed{1}}", "1"),
    ("95", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "inside"), BOXED)
def test_the_last_box_is_the_answer(text, inside):
    assert boxed(text) == inside


def test_the_table_has_enough_pairs_and_both_verdicts():
    assert len({(expected, answer) for expected, answer, *_ in PAIRS}) == len(PAIRS) >= 120
    assert {(as_published, by_value) for *_, as_published, by_value in PAIRS} == {
        *((True, True), (True, False), (False, True), (False, False))
    }


@pytest.mark.slow
@pytest.mark.parametrize(("expected", "answer", "as_published", "by_value"), PAIRS)
def test_both_verdicts(expected, answer, as_published, by_value):
    assert bool(published(expected, answer)) is as_published
    assert bool(strict(expected, answer)) is by_value


@pytest.mark.slow
@pytest.mark.nemo
def test_the_real_grader_says_the_same():
    real = pytest.importorskip("nemo_skills.evaluation.math_grader")
    for expected, answer, as_published, _ in PAIRS:
        told = real.math_equal(expected, answer, numeric_precision=15, timeout_seconds=10)
        assert bool(told) is as_published, (expected, answer)
    for text, inside in BOXED:
        assert real.extract_answer(text) == inside, text


PIECES = st.lists(
    st.sampled_from(
        [
            *"0123456789.,+-=/^_{}()[]%$ xyABE",
            *(
                [
                    r"\frac",
                    r"\sqrt",
                    r"\pi",
                    r"\text{",
                    r"\%",
                    r"\boxed{",
                    r"\{",
                    r"\}",
                    r"\\",
                    r"\cdot",
                    r"\infty",
                ]
            ),
        ]
    ),
    max_size=8,
).map("".join)


@pytest.mark.slow
@pytest.mark.nemo
@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(PIECES, PIECES)
def test_the_real_grader_says_the_same_of_anything(expected, answer):
    """Also where it raises: then ours raises the same, and the worker calls it wrong."""
    real = pytest.importorskip("nemo_skills.evaluation.math_grader")
    if "^" in expected + answer:  # a power can take longer than any limit
        return

    def told(judge, *words, **options):
        try:
            return bool(judge(*words, **options))
        except Exception as error:
            return type(error)

    assert told(published, expected, answer) == told(
        real.math_equal, expected, answer, numeric_precision=15, timeout_seconds=10
    )


def test_two_verdicts_differ_where_one_is_right():
    right, wrong, timeout = Outcome.RIGHT, Outcome.WRONG, Outcome.TIMEOUT
    assert Verdict(right, wrong).differs and Verdict(wrong, right).differs and Verdict(right, timeout).differs
    assert not Verdict(right, right).differs and not Verdict(timeout, wrong).differs


def test_the_grader_names_what_decides_its_verdicts():
    assert rules.identity().startswith(f"grading {rules.VERSION}, math-verify ")
    assert f"sympy {importlib.metadata.version('sympy')}" in rules.identity()
