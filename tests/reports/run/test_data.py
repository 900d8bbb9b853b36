"""From the raw rows to those that were kept, and the lengths of those."""

from dataclasses import replace

from omr.data import statistics
from omr.data.statistics import Lengths, SplitLengths
from omr.files import read_json
from omr.reports.pages import Bar
from omr.reports.run import data, page
from omr.workspace import manifest_of
from tests.reports import kit


def test_the_funnel_adds_up(tmp_path):
    began = page.look(kit.begin(tmp_path)[1]).began
    section = data.funnel(began, read_json(manifest_of(began.data.path)))
    assert section.header == ["", "rows", "share", "", "cot", "tir"]
    assert [[cell for cell in row if not isinstance(cell, Bar)] for row in section.rows] == [
        ["raw rows", "18", "100.0 %", "12", "6"],
        ["− source", "4", "22.2 %", "3", "1"],
        ["− pass rate <i>", "1", "5.6 %", "1", "–"],
        ["kept", "13", "72.2 %", "8", "5"],
    ]
    # Each bar begins where the next one ends: nothing is lost on the way.
    raw, source, rate, kept = (row[3] for row in section.rows)
    assert (raw.start, raw.length) == (0, 1)
    assert source.start == 14 / 18 and source.start + source.length == 1
    assert round(rate.start + rate.length - source.start, 9) == 0 and rate.start == kept.length


def test_lengths_are_those_of_this_file_with_the_training_length(tmp_path):
    began = page.look(kit.begin(tmp_path)[1]).began
    split = SplitLengths(13, 13, 900, 0, {"5": 1, "50": 2, "95": 3, "100": 700}, 1, 0, [0, 4, 8, 1])
    made = Lengths("11ee", "full", 512, 13, 0, [0, 64, 128, 512, 1024], {"cot": split})
    statistics.write(began.data.path, made)
    section = data.token_lengths(began, {})
    [panel] = section.figures[0].panels
    assert [rule.text for rule in panel.rules] == ["training: 512"] and 0 < panel.rules[0].at < 1
    statistics.write(began.data.path, Lengths(**{**vars(made), "data": "of another file"}))
    assert data.token_lengths(began, {}).text == "Not counted yet: make data-report DATASET=tiny ROUND=1."
    clean = replace(began, data=replace(began.data, path=began.data.path.with_stem("tiny-round1-clean")))
    origin = {"inputs": {"corpus": "tiny", "round": "round1"}}
    assert data.token_lengths(clean, origin).text.endswith(
        "make data-report DATASET=tiny ROUND=1 NAME=clean."
    )
