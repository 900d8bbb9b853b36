"""Ways of one thing: taken in turns, told as medians and ratios; and every family gives cases."""

import importlib
from pathlib import Path

import pytest

from bench import measure
from bench.measure import Case, Place
from omr.errors import OmrError, RequestError


def test_ways_take_turns_and_a_stall_does_not_count():
    seen, ours = [], iter([1.0, 50.0, 2.0])

    def first():
        seen.append("first")
        return next(ours)

    def second():
        seen.append("second")
        return 4.0

    found = measure.medians(Case("x", "s", {"first": first, "second": second}), 3)
    assert found == {"first": 2.0, "second": 4.0} and seen == ["first", "second"] * 3


@pytest.mark.parametrize(("unit", "ratio"), [("s", "2.00"), ("ms", "2.00"), ("tokens/s", "0.50")])
def test_the_ratio_says_how_many_times_as_fast_ours_is(unit, ratio):
    case = Case("what", unit, {}, "a note")
    first, second = measure.lines(case, {"ours": 2.0, "theirs": 4.0})
    assert first == ["what", "ours", f"2.00 {unit}", "", "a note"]
    assert second == ["", "theirs", f"4.00 {unit}", ratio, ""]


@pytest.mark.parametrize(
    ("value", "shown"), [(1234.5, "1,234 s"), (12.34, "12.3 s"), (0.5, "0.50 s"), (0.0123, "0.01 s")]
)
def test_numbers_have_the_digits_that_count(value, shown):
    assert measure.lines(Case("x", "s", {}), {"a": value})[0][2] == shown


def test_a_report_has_its_machine_and_says_why_a_way_is_missing(tmp_path, monkeypatch):
    measured = [Case("one", "s", {"a": lambda: 1.0, "b": lambda: 3.0}), Case("two", "s", {}, "no GPU")]
    monkeypatch.setattr(importlib.import_module("bench.gpu"), "cases", lambda place: iter(measured))
    text = measure.report(["gpu"], Place(tmp_path, 100), 1)
    assert "cores" in text.splitlines()[0] and "medians of 1" in text.splitlines()[0]
    assert "|  | b | 3.00 s | 3.00 |  |" in text and "| two |  |  |  | no GPU |" in text


def test_a_family_that_is_not_there_is_refused_with_those_that_are():
    assert measure.chosen([]) == measure.FAMILIES and measure.chosen(["data"]) == ["data"]
    with pytest.raises(RequestError, match=r"FAMILIES=speed is unknown; choose data, .* or gpu"):
        measure.chosen(["speed"])


@pytest.mark.parametrize("name", measure.FAMILIES)
def test_a_family_says_what_it_measures(name):
    family = importlib.import_module(f"bench.{name}")
    assert family.__doc__ and callable(family.cases)
    assert Path(family.__file__).stem == name


def test_a_report_is_put_into_its_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- measured -->\nold\n<!-- /measured -->\nafter\n")
    measure.put(r"new \1", page)
    assert page.read_text() == "before\n<!-- measured -->\nnew \\1\n<!-- /measured -->\nafter\n"
    page.write_text("a page")
    with pytest.raises(OmrError, match=r"name docs/performance\.md"):
        measure.put("new", page)
    assert page.read_text() == "a page"
