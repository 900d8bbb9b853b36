"""The compiled loop against json.dumps, whatever the bytes and the lengths."""

import json
import random

import numpy as np
import pyarrow as pa
import pytest

from omr.data import json_lines, prompts
from omr.errors import OmrError
from tests.data.kit import COLUMNS

PLAIN = prompts.Compiled(("<", ">"), (prompts.PROBLEM,), "", "")
SOURCES = {"problem": "problem"}
ALPHABETS = {
    "plain": "abc XYZ019",
    "to escape": '"\\\n',
    "controls": "".join(map(chr, range(32))) + "\x7f",
    "mostly plain": "a" * 40 + '"\\\n\t\x00',
    "beyond ASCII": "aé√\u2028\U0001f600\u00a0",
}


def texts(alphabet, dice):
    """Lengths around whole words and vectors, and a byte to escape at each place of them."""
    for length in (*range(70), 95, 96, 97, 4000):
        yield "".join(dice.choices(alphabet, k=length))
    for place in range(34):
        yield "x" * place + dice.choice(alphabet) + "y" * (64 - place)


def batch(problems):
    """Rows with these problems, and with the same backwards as solutions."""
    columns = {name: ["a"] * len(problems) for name in COLUMNS.texts}
    columns |= {"problem": problems, "generated_solution": problems[::-1]}
    arrays = [pa.array(column, pa.string()) for column in columns.values()]
    return pa.RecordBatch.from_arrays([*arrays, pa.array([True] * len(problems))], names=list(COLUMNS.names))


@pytest.mark.parametrize("alphabet", ALPHABETS.values(), ids=ALPHABETS)
def test_lines_are_what_json_dumps_writes(alphabet):
    problems = list(texts(alphabet, random.Random(1)))
    table, template = batch(problems), json_lines.Template(PLAIN, COLUMNS, SOURCES)
    lines = template.lines(table)
    assert all(isinstance(line, memoryview) for line in lines)
    assert lines == [json_lines.dump(row) for row in plain(table)]
    template.prove(table)


def plain(table):
    for row in table.to_pylist():
        problem, solution = row["problem"], row["generated_solution"]
        yield {COLUMNS.renamed(name): row[name] for name in COLUMNS.names} | {
            "input": f"<{problem}>",
            "output": solution,
        }


def test_a_loop_that_writes_otherwise_is_noticed(monkeypatch):
    real = json_lines.compiled()

    def spoiled(*words):
        real(*words)
        words[4][0] ^= 1

    monkeypatch.setattr(json_lines, "compiled", lambda: spoiled)
    with pytest.raises(OmrError, match=r"not what json.dumps writes"):
        json_lines.Template(PLAIN, COLUMNS, SOURCES).prove(batch(["a"]))


def test_controls_as_json_writes_them():
    [line] = json_lines.Template(PLAIN, COLUMNS, SOURCES).lines(batch(["".join(map(chr, range(33)))]))
    line = bytes(line)
    assert json.dumps("".join(map(chr, range(33))))[1:-1].encode() in line


def test_lines_of_a_view_into_a_longer_batch():
    """A slice has places of its own, and text before and behind it."""
    table, template = batch([f'{n} "' for n in range(20)]), json_lines.Template(PLAIN, COLUMNS, SOURCES)
    assert template.lines(table.slice(5, 7)) == template.lines(table)[5:12]
    assert template.lines(table.slice(5, 0)) == []


@pytest.mark.parametrize(
    "text", [np.empty(9, np.int8), np.empty(9, np.int32)], ids=lambda text: str(text.dtype)
)
def test_columns_of_another_kind_are_refused(text):
    """The compiled loop does not ask, and would read past the end of anything else."""
    column = json_lines.Column(text, np.array([0, 9], np.int32))
    with pytest.raises(TypeError, match="No matching definition"):
        json_lines.lines([column], [b"<", b">"])
