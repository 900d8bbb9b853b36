"""Figures: what lies where."""

import pytest

from omr.reports.pages import plots
from omr.reports.pages.plots import Rule, Series
from omr.reports.pages.scales import Scale


def test_a_histogram_shows_the_bins_that_have_something_and_the_rule():
    edges = [0, 16, 32, 64, 128, 256]
    figure = plots.histogram(
        {"cot": [0, 1, 2, 0, 0], "tir": [0, 2, 1, 0, 0]}, edges, "x", "y", "c", [Rule(96, "training: 96")]
    )
    [panel] = figure.panels
    assert [tick.text for tick in panel.x] == ["16", "32", "64", "128"]
    # 96 is in the middle of the third of the three bins that are shown.
    assert [round(rule.at, 6) for rule in panel.rules] == [round(2.5 / 3, 6)]
    assert [curve.style for curve in panel.curves] == ["line s1", "line s2"]
    assert [key.text for key in figure.keys] == ["cot", "tir"]


@pytest.mark.parametrize("counts", [[0, 0], [3, 0]])
def test_an_empty_histogram_is_a_figure(counts):
    [panel] = plots.histogram({"a": counts}, [0, 1, 2], "x", "y", "c").panels
    assert panel.curves[0].path.startswith("M0 1000")


def test_a_spike_does_not_press_the_others_flat():
    points = [(n, 1.0) for n in range(200)] + [(200, 500.0)]
    panel = plots.curve_panel("seconds", points, Scale(0, 200))
    assert panel.title == "seconds; 1 above 1.5, up to 500" and panel.y[0].text == "0"


def test_error_bars_stand_side_by_side():
    figure = plots.error_bars({"a": {"x": (50, 5), "y": (20, 0)}, "b": {"x": (60, 0)}}, "%", "c")
    a, b, c = figure.panels[0].marks
    assert (a.low > a.y > a.high) and b.low is None and c.low is None
    assert a.x < c.x < b.x and a.shape == b.shape != c.shape
    assert a.text == "a, x: 50.0 ± 5.0" and [tick.text for tick in figure.panels[0].x] == ["x", "y"]


def test_curves_differ_in_more_than_colour():
    series = [Series(str(n), [(1, n), (2, n)]) for n in range(4)]
    figure = plots.line_plot(series, "k", "%", "c")
    assert len({curve.style for curve in figure.panels[0].curves}) == 4
    assert [tick.text for tick in figure.panels[0].x] == ["1", "2"]
