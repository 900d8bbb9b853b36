"""Axes, their numbers, and curves in a few columns."""

import pytest

from omr.reports.pages.scales import Scale, columns, short


@pytest.mark.parametrize(
    ("value", "step", "text"),
    [
        (0, 5, "0"),
        (7500, 2500, "7,500"),
        (0.25, 0.05, "0.25"),
        (0.0002, 0.0001, "0.0002"),
        (1.5e6, 5e5, "1.5M"),
        (500_000, 500_000, "0.5M"),
        (2e9, 1e9, "2G"),
        (30_000, 10_000, "30,000"),
    ],
)
def test_a_tick_has_the_digits_that_tell_it_from_the_next(value, step, text):
    assert short(value, step) == text


@pytest.mark.parametrize(
    ("values", "ends", "ticks"),
    [
        ([], (0, 1), ["0", "0.5", "1.0"]),
        ([0, 0], (0, 1), ["0", "0.5", "1.0"]),
        ([3, 6.2], (0, 8), ["0", "2", "4", "6", "8"]),
        ([-3, 2], (-4, 2), ["-4", "-2", "0", "2"]),
        ([100], (0, 100), ["0", "50", "100"]),
        ([0.0002], (0, 0.0002), ["0", "5e-05", "0.0001", "0.00015", "0.0002"]),
    ],
)
def test_an_axis_is_round_and_holds_all(values, ends, ticks):
    scale = Scale.over(values)
    assert (scale.low, scale.high) == ends and all(0 <= scale.at(value) <= 1 for value in values)
    assert [tick.text for tick in scale.ticks()] == ticks


def test_what_is_beyond_lies_at_the_end():
    scale = Scale(0, 10)
    assert [scale.at(value) for value in (-5, 0, 5, 50)] == [0, 0, 0.5, 1]


def test_powers_of_ten_are_equally_long():
    scale = Scale.powers([0.02, 7])
    assert [tick.text for tick in scale.ticks()] == ["0.01", "0.1", "1", "10"]
    assert [round(tick.at, 6) for tick in scale.ticks()] == [0, 0.333333, 0.666667, 1]
    assert scale.at(0) == 0  # a number that has no logarithm is below all


def test_a_long_curve_keeps_its_extremes_in_few_columns():
    points = [(n, 1.0) for n in range(30_000)]
    points[12_345] = (12_345, 9.0)
    points[200] = (200, -7.0)
    found = columns(points, Scale(0, 30_000), 400)
    assert len(found) <= 400 and [c.x for c in found] == sorted(c.x for c in found)
    assert max(c.high for c in found) == 9 and min(c.low for c in found) == -7
    assert {c.middle for c in found} == {1}


def test_a_short_curve_is_as_it_is():
    points = [(1, 2.0), (2, 4.0)]
    assert [(c.x, c.low, c.middle, c.high) for c in columns(points, Scale(0, 2))] == [
        (1, 2, 2, 2),
        (2, 4, 4, 4),
    ]
