"""Sections as HTML: escaped, aligned, and with nothing where there is nothing."""

import re

import pytest

from omr.reports import pages
from omr.reports.pages import Bar, Command, Link, Section
from omr.reports.pages.page import TEMPLATE


@pytest.mark.parametrize(
    "cell",
    ["12", "1,200", "1,200 ± 7", "5.6 MB", "+1.5 %", "−3", "98.3", "2e-4", "–", ""],
)
def test_numbers_stand_to_the_right(cell):
    assert Section("t", header=["a", "b"], rows=[["x", cell], ["y", "1"]]).numeric(1)


@pytest.mark.parametrize("cell", ["3 source", "step 12", "2026-01-31 18:00", "ab12", "+1.2 standard errors"])
def test_words_stand_to_the_left(cell):
    assert not Section("t", header=["a", "b"], rows=[["x", cell], ["y", "1"]]).numeric(1)


def test_every_text_is_escaped():
    bad = '<script>alert("x")</script>'
    figure = pages.line_plot([pages.Series(bad, [(1, 1), (2, 2)])] * 2, bad, bad, bad)
    rows = [[bad, Link(bad, bad), Command(bad), Bar(0, 0.5)]]
    section = Section(bad, bad, [bad] * 4, rows, [figure], [bad], bad)
    text = pages.render(bad, bad, [section] * 3, [(bad, bad)], bad)
    assert "<script" not in text and text.count("&lt;script&gt;") > 20
    assert not re.search(r'="[^"]*<', text)


def test_a_page_of_nothing_is_a_page():
    text = pages.render("title", "", [])
    assert "<nav" not in text and "<dl" not in text and text.rstrip().endswith("</html>")


def test_every_shape_and_style_that_is_drawn_is_defined():
    """A mark whose symbol is missing would be invisible."""
    from omr.reports.pages.plots import SHAPES
    from omr.reports.run.chain import KINDS
    from omr.reports.run.training import CHECKPOINTS

    template, css = TEMPLATE.read_text(), TEMPLATE.with_name("page.css").read_text()
    shapes = {
        *SHAPES,
        "stroke",
        *(k.shape for k in KINDS.values()),
        *(shape for _, shape, _ in CHECKPOINTS.values()),
    }
    styles = {*(k.style for k in KINDS.values()), *(style for *_, style in CHECKPOINTS.values())}
    assert {s for s in shapes if f'<g id="{s}">' not in template} == set()
    assert {s for s in styles if f".{s} {{ --c:" not in css} == set()
