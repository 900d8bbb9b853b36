"""The loss on held-out rows, as a section of the page."""

from dataclasses import replace
from pathlib import Path

import pytest

from omr.reports.run import held_out
from omr.run import frozen
from omr.run.validation import ValidationFile
from tests.reports import kit

ROWS = [{"step": 4 * n, "loss": 1.0, "val_loss": 3 / n, "val_loss_cot": 2 / n} for n in (1, 2, 3)]


@pytest.fixture
def began(tmp_path):
    return frozen.read(kit.begin(tmp_path, steps=24)[1])


def with_rows(began, *splits):
    files = tuple(ValidationFile(split, Path(f"/{split}.jsonl"), "0", 1, 1200) for split in splits)
    return replace(began, data=replace(began.data, validation=files))


def test_nothing_was_held_out(began):
    assert held_out.section(began, ROWS, {}, "MODEL=tiny") is None


def test_curves_and_the_average_beside_its_parts(began):
    models = {"final": {"val_loss": 0.51234, "val_loss_cot": 0.4}, "step_12": {"val_loss": 0.6}}
    began = with_rows(began, "cot", "tir")
    found = held_out.section(began, ROWS, models, "MODEL=tiny")
    assert "1,200 of cot and 1,200 of tir" in found.text and not found.after
    assert list(found.header) == ["model", "all", "cot", "tir"]
    assert found.rows == [["final", "0.5123", "0.4000", "–"], ["step_12", "0.6000", "–", "–"]]
    (figure,) = found.figures
    assert [key.text for key in figure.keys] == ["all", "cot"]  # tir has no point


def test_one_split_has_one_curve_and_what_is_missing_is_said(began):
    found = held_out.section(with_rows(began, "cot"), ROWS, {}, "MODEL=tiny NAME=held")
    (panel,) = found.figures[0].panels
    assert len(panel.curves) == 1
    assert found.after.endswith("not looked at yet: make validate MODEL=tiny NAME=held.")
    assert not found.header and not found.rows


def test_before_the_second_save_there_is_no_curve(began):
    assert held_out.section(with_rows(began, "cot"), ROWS[:1], {}, "").figures == []
