#!/usr/bin/env python3
"""How fast rows become JSON lines on one core: the compiled loop beside two plainer ways of the same bytes.

    .venv/bin/python bench/lines.py [--size 5e7]        # the table of docs/data.md

From Arrow columns to finished lines, on the CoT rows of bench/data.py. The ways take turns in one process; the
first turn is not counted, and the table has medians of processor time.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench import corpus  # noqa: E402
from omr import recipe  # noqa: E402
from omr.data.json_lines import Template, dump  # noqa: E402
from omr.data.prompts import Compiled  # noqa: E402

SCHEMA = recipe.CORPORA["openmathreasoning"].columns
COLUMNS, PROBLEM, SOLUTION = SCHEMA.names, SCHEMA.problem, SCHEMA.solution
NAMES = {PROBLEM: "input", SOLUTION: "output"}
BATCH = 100  # rows at a time, about 2 MB, as the data stage takes them
ESCAPES = ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"\n", b"\\n"), (b"\t", b"\\t"), (b"\r", b"\\r"))


def compiled(batches: list[pa.RecordBatch]) -> list[bytes]:
    """The data stage's own loop."""
    template = Template(Compiled(("", ""), (PROBLEM,), "", ""), SCHEMA, {PROBLEM: PROBLEM})
    return [bytes(line) for batch in batches for line in template.lines(batch)]


def replaced(batches: list[pa.RecordBatch]) -> list[bytes]:
    """bytes.replace on each value; it knows the control characters of these rows alone."""
    return [_replaced(row) for batch in batches for row in batch.to_pylist()]


def _replaced(row: dict[str, str | bool]) -> bytes:
    fields = []
    for name in COLUMNS:
        if name in SCHEMA.flags:
            value = b"true" if row[name] else b"false"
        else:
            value = row[name].encode()
            for plain, written in ESCAPES:
                value = value.replace(plain, written)
            value = b'"' + value + b'"'
        fields.append(b'"%s":%s' % (NAMES.get(name, name).encode(), value))
    return b"{" + b",".join(fields) + b"}\n"


def dumped(batches: list[pa.RecordBatch]) -> list[bytes]:
    """json.dumps on each row: what the others are held against."""
    renamed = [(name, NAMES.get(name, name)) for name in COLUMNS]
    return [dump({new: row[old] for old, new in renamed}) for batch in batches for row in batch.to_pylist()]


WAYS = {"the compiled loop": compiled, "bytes.replace": replaced, "json.dumps": dumped}


def main() -> None:
    """Generate, measure, print."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--size", type=float, default=5e7, help="bytes of text")
    options.add_argument("--repeat", type=int, default=5)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        corpus.generate(Path(scratch) / "rows", int(given.size / corpus.SHARE["cot"]))
        table = pa.concat_tables(map(pq.read_table, sorted(Path(scratch).rglob("cot-*.parquet"))))
    batches = table.select(list(COLUMNS)).combine_chunks().to_batches(BATCH)
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for turn in range(given.repeat + 1):
        made = {}
        for name, way in WAYS.items():
            start = time.process_time()
            made[name] = way(batches)
            if turn:
                seconds[name].append(time.process_time() - start)
        if any(lines != made["json.dumps"] for lines in made.values()):
            sys.exit("the ways do not give the same bytes: " + json.dumps(list(made)))
    size = sum(map(len, made["json.dumps"]))
    print(f"<!-- {len(table):,} rows, {size / 1e6:.0f} MB of lines -->\n| way | GB/s |\n| --- | --- |")
    for name, times in seconds.items():
        print(f"| {name} | {size / statistics.median(times) / 1e9:.2f} |")


if __name__ == "__main__":
    main()
