"""Curves, lines and pages of text."""

import math
from pathlib import Path

import pytest

from omr.cluster.status import Row, Status
from omr.reports.watch import draw
from omr.reports.watch.looks import Look


@pytest.mark.parametrize(
    ("values", "width", "curve"),
    [
        ([], 8, ""),
        ([1.0], 8, "▁"),
        ([5.0, 5.0, 5.0], 8, "▁▁▁"),
        ([8, 7, 6, 5, 4, 3, 2, 1], 8, "█▇▆▅▄▃▂▁"),
        ([8, 8, 1, 1], 2, "█▁"),
        ([2.0, math.nan, 1.0, math.inf], 8, "█▁"),
        ([1.0, 2.0], 0, ""),
    ],
)
def test_sparkline(values, width, curve):
    assert draw.sparkline(values, width) == curve


def test_a_curve_of_many_steps_keeps_its_width():
    assert len(draw.sparkline([1 / (i + 1) for i in range(30_000)], 40)) == 40
    assert set(draw.sparkline([3.0, 1.0], 2, draw.LETTERS)) == {"#", "_"}


def look(live=True, final=False, rows=(), **more):
    found = Status("7b round1", Path("/w/runs/7b/round1"), list(rows), final=final, **more)
    return Look(found, [2.0, 1.0, 0.5], live)


RUNNING = {"steps": 400, "step": 120, "saved": 100, "step_seconds": 2.5, "seconds_left": 700.0}


def test_a_page():
    rows = [Row("train-1", "7", "COMPLETED", "from step 0 to 100"), Row("train-2", "8", "RUNNING")]
    found = look(rows=rows, story=["a", "b", "c", "d", "e"], tokens_per_second=1234.0, **RUNNING)
    lines = draw.page(found)
    assert lines[0] == "7b round1  /w/runs/7b/round1" and "train-2  8        RUNNING" in lines[2]
    assert lines[3] == f"  step 120 of 400 {'█' * 9}{'░' * 21} 30%  saved 100"
    assert lines[4] == "  loss 0.5000  █▃▁  from 2.0000"
    assert lines[5] == "  2.50 s a step, 1,234 tokens/s, about 11:40 left"
    assert lines[6:] == ["  b", "  c", "  d", "  e"]
    assert draw.line(found) == (
        "7b round1: step 120 of 400 (30%), loss 0.5000 █▃▁, 2.50 s a step, 1,234 tokens/s, about 11:40 left,"
        " 1 running"
    )
    assert "█" not in draw.line(found, width=0)


def test_of_a_long_chain_those_that_tell_something_are_shown():
    rows = [Row(f"train-{i}", str(i), "COMPLETED") for i in range(150)]
    rows += [Row("train-150", "150", "RUNNING"), Row("train-151", "151", "FAILED")]
    rows += [Row(f"train-{i}", str(i), "PENDING") for i in range(152, 200)]
    text = "\n".join(draw.page(look(rows=rows, **RUNNING)))
    assert "train-150" in text and "train-151" in text and text.count("train-") == draw.JOBS
    assert "and 150 completed, 45 pending" in text


@pytest.mark.parametrize(
    ("live", "final", "said"),
    [
        (True, False, ""),
        (True, True, "finished: /w/runs/7b/round1/final"),
        (False, False, "nothing works on it"),
    ],
)
def test_how_a_run_ended(live, final, said):
    assert draw.end(look(live, final, **RUNNING)).startswith(said) and bool(
        draw.end(look(live, final))
    ) is bool(said)
