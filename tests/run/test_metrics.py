"""The numbers of each step, read back."""

import json

import pytest

from omr.run import metrics


def write(path, rows, torn=""):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows) + torn)


def test_each_step_once_in_order_with_all_that_was_said_of_it(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": 1, "loss": 3}, {"step": 2, "loss": 2}, {"step": 2, "time": 9}, {"step": 1, "loss": 4}]
    write(path, rows, '{"step": 3, "lo')
    assert metrics.read(path) == [{"step": 1, "loss": 4}, {"step": 2, "loss": 2, "time": 9}]
    assert metrics.read(path, until=1) == [{"step": 1, "loss": 4}]


@pytest.mark.parametrize("line", ["[]", "3", '{"loss": 1}', '{"step": null}', '{"step": NaN}', "\udc80"])
def test_what_is_no_step_is_left_out(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(f'{line}\n{{"step": 1}}\n'.encode(errors="surrogateescape"))
    assert metrics.read(path) == [{"step": 1}]


@pytest.mark.parametrize("tail", [1, 30, 200, 10_000])
def test_the_tail_begins_in_the_middle_of_a_line(tmp_path, tail):
    path = tmp_path / "metrics.jsonl"
    write(path, [{"step": n, "loss": n} for n in range(1, 21)])
    found = metrics.read(path, tail=tail)
    assert found == metrics.read(path)[len(metrics.read(path)) - len(found) :]
    assert len(found) == {1: 0, 30: 1, 200: 8, 10_000: 20}[tail]


def test_no_file_no_steps(tmp_path):
    assert metrics.read(tmp_path / "none") == []
