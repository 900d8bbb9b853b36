"""The compiled loop against json.dumps, whatever the bytes, the ends of blocks and the room there is."""

import ctypes
import json
import random

import numpy as np
import pyarrow as pa
import pytest

from omr.data import json_lines, prompts, rows

PLAIN = prompts.Compiled(("<", ">"), (prompts.PROBLEM,), "", "")
ALPHABETS = {
    "plain": "abc XYZ019",
    "to escape": '"\\\n',
    "controls": "".join(map(chr, range(32))) + "\x7f",
    "mostly plain": "a" * 40 + '"\\\n\t\x00',
    "beyond ASCII": "aé√\u2028\U0001f600\u00a0",
}


def texts(alphabet, dice):
    """Lengths around whole blocks, and each byte to escape at each place of a block."""
    for length in (*range(70), 95, 96, 97, 4000):
        yield "".join(dice.choices(alphabet, k=length))
    for place in range(json_lines.BLOCK + 2):
        yield "x" * place + dice.choice(alphabet) + "y" * (2 * json_lines.BLOCK - place)


def batch(problems):
    """Rows with these problems, and with the same backwards as solutions."""
    columns = {name: ["a"] * len(problems) for name in rows.TEXTS}
    columns |= {"problem": problems, "generated_solution": problems[::-1]}
    arrays = [pa.array(column, pa.string()) for column in columns.values()]
    return pa.RecordBatch.from_arrays([*arrays, pa.array([True] * len(problems))], names=list(rows.COLUMNS))


@pytest.mark.parametrize("alphabet", ALPHABETS.values(), ids=ALPHABETS)
def test_lines_are_what_json_dumps_writes(alphabet):
    problems = list(texts(alphabet, random.Random(1)))
    table, formatter = batch(problems), rows.Formatter(PLAIN)
    [source] = formatter.lines(table, None)
    assert isinstance(source, json_lines.Columns)
    expected = [rows.dump(row) for row in plain(table)]
    assert json_lines.text([source]) == b"".join(expected)
    formatter.prove(table, None)


def plain(table):
    for row in table.to_pylist():
        problem, solution = row["problem"], row["generated_solution"]
        yield {rows.RENAMED.get(name, name): row[name] for name in rows.COLUMNS} | {
            "input": f"<{problem}>",
            "output": solution,
        }


@pytest.mark.parametrize("room", [1_000, 5_000, 60_000, 10**6])
def test_lines_stop_where_the_next_might_not_fit(room):
    """Whoever goes on from there, with an empty room or a larger one, gets the same lines."""
    problems = list(texts(ALPHABETS["mostly plain"], random.Random(2)))
    [source] = rows.Formatter(PLAIN).lines(batch(problems), None)
    whole, first, found = json_lines.text([source]), 0, []
    while first < len(source):
        out, ends = np.full(room, 7, np.uint8), np.zeros(len(source), np.int64)
        took = source.write(first, out[: room - 100], 0, ends)
        assert (out[room - 100 :] == 7).all()
        if not took:
            assert source.need(first) > room - 100
            out = np.zeros(source.need(first), np.uint8)
            assert source.write(first, out, 0, ends) >= 1
            took = 1
        found.append(out[: ends[took - 1]].tobytes())
        first += took
    assert b"".join(found) == whole


def test_lines_that_are_there_are_copied():
    source = json_lines.Whole([b"one\n", b"three\n", b"five\n"])
    out, ends = np.zeros(10, np.uint8), np.zeros(3, np.int64)
    assert source.write(0, out, 0, ends) == 2 and ends.tolist() == [4, 10, 0]
    assert out.tobytes() == b"one\nthree\n"
    assert source.write(2, out, 0, ends) == 1 and out[: ends[0]].tobytes() == b"five\n"
    assert source.write(2, out, 6, ends) == 0 and source.need(2) == 5


def test_a_loop_that_writes_otherwise_is_noticed(monkeypatch):
    real = json_lines._write

    def spoiled(*words):
        took, out = real(*words), ctypes.c_uint8.from_address(words[8])
        out.value ^= 1
        return took

    monkeypatch.setattr(json_lines, "_write", spoiled)
    with pytest.raises(rows.OmrError, match=r"not what json.dumps writes"):
        rows.Formatter(PLAIN).prove(batch(["a"]), None)


def test_controls_as_json_writes_them():
    [source] = rows.Formatter(PLAIN).lines(batch(["".join(map(chr, range(33)))]), None)
    line = json_lines.text([source])
    assert json.dumps("".join(map(chr, range(33))))[1:-1].encode() in line


@pytest.mark.parametrize(
    "out", [np.empty(999, np.int8), np.empty(999, np.uint8)[::2], np.empty((9, 99), np.uint8)]
)
def test_memory_of_another_kind_is_refused(out):
    """The loop takes an address, and would write past the end of anything else."""
    [source] = rows.Formatter(PLAIN).lines(batch(["a"]), None)
    with pytest.raises(TypeError, match=r"without gaps"):
        source.write(0, out, 0, np.empty(1, np.int64))


def test_no_more_lines_than_ends():
    [source] = rows.Formatter(PLAIN).lines(batch(["a"] * 5), None)
    out, ends = np.empty(9999, np.uint8), np.full(3, -1, np.int64)
    assert source.write(1, out, 0, ends[:2]) == 2 and ends[2] == -1
