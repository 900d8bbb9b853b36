"""Raw rows -> SFT lines, and which rows a round keeps: Arrow columns in, bytes and reasons out.

A line is compact JSON in UTF-8, as json.dumps(row, ensure_ascii=False, separators=(",", ":")) writes it,
and a newline. omr/data/json_lines.py writes those of whole columns at once.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from omr import recipe
from omr.data.prompts import COUNT, PROBLEM, Compiled, Prompt
from omr.errors import OmrError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from omr.data.json_lines import Source

TEXTS = (
    "expected_answer",
    "problem_type",
    "problem_source",
    "generation_model",
    "pass_rate_72b_tir",
    "problem",
    "generated_solution",
    "inference_mode",
)
FLAG = "used_in_kaggle"
COLUMNS = (*TEXTS, FLAG)
RENAMED = {"problem": "input", "generated_solution": "output"}
NEEDED = ("problem", "generated_solution")  # null here is no row; null elsewhere is JSON's null
SOURCE, RATE, SOLUTION = "problem_source", "pass_rate_72b_tir", "generated_solution"
LEFT, SPENT = "Remaining code executions: ", "You have run out of code executions!"


@dataclass
class Tally:
    """What became of a shard's rows."""

    read: int = 0
    kept: int = 0
    dropped: Counter = field(default_factory=Counter)  # by the round's filter: reason -> rows
    two_digits: int = 0  # execution counts that the recipe's one-digit reading cuts


@dataclass(frozen=True)
class Bad:
    """A malformed row: its number in the batch, and why."""

    row: int
    reason: str


def schema_fault(schema: "pa.Schema") -> str | None:
    """Why a file is not of the published schema, or None."""
    import pyarrow as pa

    def text(kind: "pa.DataType") -> bool:
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        return pa.types.is_string(kind) or pa.types.is_large_string(kind)

    for name in COLUMNS:
        if name not in schema.names:
            return f"column {name} is missing"
        kind = schema.field(name).type
        if not (text(kind) if name in TEXTS else pa.types.is_boolean(kind)):
            return f"column {name} is {kind}, not {'text' if name in TEXTS else 'true or false'}"
    if extra := [name for name in schema.names if name not in COLUMNS]:
        return f"column {extra[0]} is not in the published schema"
    return None


def plain(batch: "pa.RecordBatch") -> "pa.RecordBatch":
    """The batch with every text as Arrow's `string`, however the file stores it."""
    import pyarrow as pa

    columns = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in batch.columns]
    columns = [c.cast(pa.string()) if pa.types.is_large_string(c.type) else c for c in columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def candidates(
    corpus: recipe.Corpus, batch: "pa.RecordBatch", tally: Tally
) -> "tuple[np.ndarray, list[Bad]]":
    """Which rows pass the round's cheap filter (source and pass rate), as a mask; the others are tallied.

    The pass rate is read as float() does, and only where the source is an olympiad's: `nan` stays.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    olympiad = pc.is_in(batch[SOURCE], pa.array(corpus.olympiad_sources, batch[SOURCE].type))
    mask = olympiad.to_numpy(zero_copy_only=False)
    tally.dropped["source"] += int(len(mask) - mask.sum())
    encoded = batch[RATE].dictionary_encode()
    verdicts = [_verdict(corpus, rate) for rate in (*encoded.dictionary.to_pylist(), None)]
    codes = encoded.indices.fill_null(len(verdicts) - 1).to_numpy(zero_copy_only=False)
    bad = []
    for code, verdict in enumerate(verdicts):
        if verdict is None:
            continue
        hit = mask & (codes == code)
        if verdict.startswith("pass rate is"):
            bad += [Bad(int(row), verdict) for row in np.flatnonzero(hit)]
        else:
            tally.dropped[verdict] += int(hit.sum())
        mask = mask & ~hit
    return mask, sorted(bad, key=lambda b: b.row)


def _verdict(corpus: recipe.Corpus, rate: str | None) -> str | None:
    """Why the filter drops an olympiad row of this pass rate, or None when it stays."""
    if rate == "n/a":
        return "pass rate n/a"
    try:
        return "pass rate" if float(rate) > corpus.max_pass_rate else None
    except (TypeError, ValueError):
        return f"pass rate is {'null' if rate is None else repr(rate[:40])}, no number"


def unreadable(batch: "pa.RecordBatch") -> list[Bad]:
    """Rows without a problem or a solution, or with text that is no UTF-8."""
    import numpy as np
    import pyarrow.compute as pc

    bad: dict[int, str] = {}
    for name in TEXTS:
        if name in NEEDED and batch[name].null_count:
            for row in np.flatnonzero(pc.is_null(batch[name]).to_numpy(zero_copy_only=False)):
                bad.setdefault(int(row), f"{name} is null")
        for row in _undecodable(batch[name]):
            bad.setdefault(row, f"{name} is not UTF-8")
    return [Bad(row, bad[row]) for row in sorted(bad)]


def _undecodable(column: "pa.Array") -> Iterator[int]:
    import pyarrow as pa

    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        for row, value in enumerate(column.cast(pa.large_binary())):
            try:
                (value.as_py() or b"").decode()
            except UnicodeDecodeError:
                yield row


def executions(solutions: "pa.StringArray") -> "tuple[np.ndarray, list[Bad], int]":
    """The prompt's execution count of each solution; rows without one; how many counts lost a digit.

    The recipe takes the one character that begins the first word after the first marker (so 12 counts
    as 1), and adds one; without a marker the executions must have run out, which counts as 1.
    """
    import numpy as np

    if not len(solutions):
        return np.ones(0, np.int64), [], 0
    _, offsets, text = solutions.buffers()
    offsets = np.frombuffer(offsets, np.int32)[solutions.offset : solutions.offset + len(solutions) + 1]
    text = text.slice(int(offsets[0]), int(offsets[-1] - offsets[0])).to_pybytes() if text else b""
    offsets = offsets.astype(np.int64) - offsets[0]
    spans = list(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True))
    # bytes.find leaps, at many times the speed of Arrow's own search.
    found = np.fromiter((text.find(LEFT.encode(), *span) for span in spans), np.int64, len(spans))
    counts = np.ones(len(found), np.int64)
    at = np.flatnonzero(found >= 0)
    place, ends, codes = found[at] + len(LEFT), offsets[at + 1], np.frombuffer(text, np.uint8)
    first, second = _byte(codes, place, ends), _byte(codes, place + 1, ends)
    digit = (first >= ord("0")) & (first <= ord("9"))
    two_digits = int((digit & (second >= ord("0")) & (second <= ord("9"))).sum())
    counts[at[digit]] = first[digit].astype(np.int64) - ord("0") + 1
    bad = []
    for row in at[~digit]:  # a space or an exotic digit after the marker, or no number at all
        number, longer = _slow_count(solutions[int(row)].as_py())
        two_digits += longer
        counts[row] = number or 0
        if number is None:
            bad.append(int(row))
    bad += [int(row) for row in np.flatnonzero(found < 0) if text.find(SPENT.encode(), *spans[row]) < 0]
    return (
        counts,
        [Bad(row, "the solution has neither ending of tool use") for row in sorted(bad)],
        two_digits,
    )


def _byte(text: "np.ndarray", place: "np.ndarray", ends: "np.ndarray") -> "np.ndarray":
    """The byte at each place, 0 past its value's end."""
    import numpy as np

    inside = place < ends
    return np.where(inside, text[np.where(inside, place, 0)] if len(text) else 0, 0)


def _slow_count(solution: str) -> tuple[int | None, bool]:
    """The recipe's own reading of one solution: the count, None where it finds no digit; was a digit lost?"""
    words = solution.split(LEFT)[1].split()
    try:
        return int(words[0][0]) + 1, words[0][1:2].isdigit()
    except (IndexError, ValueError):
        return None, False


class Formatter:
    """Lines of a split: its compiled prompt between the row's values."""

    def __init__(self, compiled: Compiled, prompt: Prompt | None = None) -> None:
        import numpy as np

        self.compiled, self.prompt = compiled, prompt
        inside = [_escape_text(piece) for piece in compiled.pieces]
        self.values: list[str] = []  # what stands between the pieces of a line, in its order
        pieces = ["{"]

        def put(value: str, after: str) -> None:
            self.values.append(value)
            pieces.append(after)

        for number, name in enumerate(COLUMNS):
            quote = "" if name == FLAG else '"'
            pieces[-1] += f"{',' if number else ''}{json.dumps(RENAMED.get(name, name))}:{quote}"
            if name == "problem":
                pieces[-1] += inside[0]
                for value, piece in zip(compiled.fields, inside[1:], strict=True):
                    put(value, piece)
            elif name == SOLUTION:
                pieces[-1] += _escape_text(compiled.before)
                put(name, _escape_text(compiled.after))
            else:
                put(name, "")
            pieces[-1] += quote
        pieces[-1] += "}\n"
        encoded = [piece.encode() for piece in pieces]
        self.pieces = np.frombuffer(bytearray(b"".join(encoded)), np.uint8)
        self.cuts = np.cumsum([0, *map(len, encoded)])

    def lines(self, batch: "pa.RecordBatch", counts: "np.ndarray | None") -> "list[Source]":
        """The rows of a batch without faults, in its order, as what writes their lines."""
        from omr.data import json_lines

        if not self.compiled.exact:
            numbers = [None] * len(batch) if counts is None else counts.tolist()
            return [
                json_lines.Whole(
                    [self.line(row, n) for row, n in zip(batch.to_pylist(), numbers, strict=True)]
                )
            ]
        found, start = [], 0
        for row in [*_with_nulls(batch), len(batch)]:
            if start < row:
                part = None if counts is None else counts[start:row]
                found.append(self._columns(batch.slice(start, row - start), part))
            if row < len(batch):
                count = None if counts is None else int(counts[row])
                found.append(json_lines.Whole([self.line(batch.slice(row, 1).to_pylist()[0], count)]))
            start = row + 1
        return found

    def prove(self, batch: "pa.RecordBatch", counts: "np.ndarray | None") -> None:
        """The lines of these rows against the plainest way's; an OmrError where they differ."""
        from omr.data import json_lines

        numbers = [None] * len(batch) if counts is None else counts.tolist()
        plain = b"".join(self.line(row, n) for row, n in zip(batch.to_pylist(), numbers, strict=True))
        if json_lines.text(self.lines(batch, counts)) != plain:
            raise OmrError("lines are not what json.dumps writes; reinstall llvmlite (rm -rf .venv)")

    def _columns(self, batch: "pa.RecordBatch", counts: "np.ndarray | None") -> "Source":
        from omr.data import json_lines

        columns = [_bytes_of(self._column(batch, name, counts)) for name in self.values]
        texts, offsets = zip(*columns, strict=True)
        return json_lines.Columns(texts, offsets, self.pieces, self.cuts)

    def _column(self, batch: "pa.RecordBatch", name: str, counts: "np.ndarray | None") -> "pa.StringArray":
        import pyarrow as pa
        import pyarrow.compute as pc

        if name == COUNT:
            return pa.array(counts).cast(pa.string())
        return pc.if_else(batch[name], "true", "false").fill_null("null") if name == FLAG else batch[name]

    def line(self, row: dict, count: int | None) -> bytes:
        """The line of one raw row, by the plainest way: for a row with nulls, and to prove the others by."""
        values = {PROBLEM: row["problem"], COUNT: count}
        if self.compiled.exact:
            given, answer = self.compiled.input(values), self.compiled.output(row[SOLUTION])
        else:
            if count is None:
                del values[COUNT]
            given, answer = self.prompt.fill(values), self.prompt.format_assistant_response(row[SOLUTION])
        row = {RENAMED.get(name, name): row[name] for name in COLUMNS} | {"input": given, "output": answer}
        return dump(row)


def dump(row: dict) -> bytes:
    """The line of one SFT row."""
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _escape_text(text: str) -> str:
    """A constant piece inside a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _bytes_of(column: "pa.StringArray") -> "tuple[np.ndarray, np.ndarray]":
    """A column's bytes, and where in them each value begins and the last one ends; nothing is copied."""
    import numpy as np

    _, offsets, text = column.buffers()
    text, places = np.frombuffer(text or b"", np.uint8), np.frombuffer(offsets or bytes(4), np.int32)
    for array in (text, places):
        array.setflags(write=False)  # as the compiled loop has it
    return text, places[column.offset : column.offset + len(column) + 1]


def _with_nulls(batch: "pa.RecordBatch") -> list[int]:
    """Rows with a null text, whose line is no filling of the template."""
    import numpy as np
    import pyarrow.compute as pc

    rows = set()
    for name in TEXTS:
        if batch[name].null_count:
            rows |= set(np.flatnonzero(pc.is_null(batch[name]).to_numpy(zero_copy_only=False)).tolist())
    return sorted(rows)
