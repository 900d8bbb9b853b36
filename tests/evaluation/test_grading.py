"""Which answers are right."""

import pytest

from omr.evaluation.grading import boxed, is_right

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
    assert boxed(text) == inside


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
    assert is_right(answer, expected) is right
