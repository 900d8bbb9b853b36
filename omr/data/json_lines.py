"""Raw rows -> SFT lines: compact JSON in UTF-8, and a newline.

The bytes are those of json.dumps(row, ensure_ascii=False, separators=(",", ":")). Whole columns become lines
in one loop, which numba compiles once per run (its cache on the disk would be pickle); docs/data.md says what
it is worth beside orjson and bytes.replace. A row with a null is written by json.dumps itself.
"""

import functools
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omr.data.prompts import Compiled, Prompt
from omr.errors import OmrError
from omr.recipe import Columns

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

LONGEST = 6  # bytes that one byte of a text may become: \u001f


class Template:
    """Lines of a split: its compiled prompt between the row's values."""

    def __init__(
        self,
        compiled: Compiled,
        columns: Columns,
        sources: Mapping[str, str],
        prompt: Prompt | None = None,
    ) -> None:
        """`sources`: the column that each field of the prompt is filled from (Corpus.sources)."""
        self.compiled, self.columns, self.sources, self.prompt = compiled, columns, sources, prompt
        self.values: list[str] = []  # the columns between the pieces of a line, in its order
        pieces = ["{"]
        for number, name in enumerate(columns.names):
            quote = "" if name in columns.flags else '"'
            before, *after = self._around(name)
            key = json.dumps(columns.renamed(name), ensure_ascii=False)
            pieces[-1] += f"{',' if number else ''}{key}:{quote}{before}"
            pieces += after
            pieces[-1] += quote
        pieces[-1] += "}\n"
        self.pieces = [piece.encode() for piece in pieces]

    def _around(self, name: str) -> list[str]:
        """The constant pieces around the values of a column of the line, which are noted in `values`."""
        if name == self.columns.problem:
            self.values += [self.sources[field] for field in self.compiled.fields]
            return [_escape(piece) for piece in self.compiled.pieces]
        self.values.append(name)
        if name == self.columns.solution:
            return [_escape(self.compiled.before), _escape(self.compiled.after)]
        return ["", ""]

    def lines(self, batch: "pa.RecordBatch") -> list[bytes | memoryview]:
        """The line of each row of a batch without faults, which has the formulas' columns, too."""
        if not self.compiled.exact:
            return self._slow_lines(batch)
        found, start = [], 0
        for row in [*_with_nulls(batch, self.columns), len(batch)]:
            if start < row:
                found += self._fast_lines(batch.slice(start, row - start))
            if row < len(batch):
                found += self._slow_lines(batch.slice(row, 1))
            start = row + 1
        return found

    def _fast_lines(self, batch: "pa.RecordBatch") -> list[memoryview]:
        return lines([Column.of(self._values(batch, name)) for name in self.values], self.pieces)

    def _slow_lines(self, batch: "pa.RecordBatch") -> list[bytes]:
        """By the plainest way: for rows with nulls, and to prove the others by."""
        return [self._line(row) for row in batch.to_pylist()]

    def prove(self, batch: "pa.RecordBatch") -> None:
        """The lines of these rows against the plainest way's; an OmrError where they differ."""
        if self.lines(batch) != self._slow_lines(batch):
            raise OmrError("lines are not what json.dumps writes; reinstall numba (rm -rf .venv)")

    def _values(self, batch: "pa.RecordBatch", name: str) -> "pa.StringArray":
        import pyarrow.compute as pc

        if name in self.columns.flags:
            return pc.if_else(batch[name], "true", "false").fill_null("null")
        return batch[name]

    def _line(self, row: dict[str, str | bool | None]) -> bytes:
        """The line of one raw row."""
        columns, solution = self.columns, row[self.columns.solution]
        values = {field: row[source] for field, source in self.sources.items()}
        if self.compiled.exact:
            given, answer = self.compiled.input(values), self.compiled.output(solution)
        else:
            given, answer = self.prompt.fill(values), self.prompt.format_assistant_response(solution)
        kept = {columns.renamed(name): row[name] for name in columns.names}
        return dump(kept | {"input": given, "output": answer})


def dump(row: dict[str, str | bool | None]) -> bytes:
    """The line of one SFT row."""
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _escape(text: str) -> str:
    """A constant piece inside a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _with_nulls(batch: "pa.RecordBatch", columns: Columns) -> list[int]:
    """Rows with a null text, whose line is no filling of the template."""
    import numpy as np
    import pyarrow.compute as pc

    rows = set()
    for name in columns.texts:
        if batch[name].null_count:
            rows |= set(np.flatnonzero(pc.is_null(batch[name]).to_numpy(zero_copy_only=False)).tolist())
    return sorted(rows)


@dataclass(frozen=True)
class Column:
    """Texts in UTF-8, one behind the other: that of a row is text[offsets[row]:offsets[row + 1]]."""

    text: "np.ndarray"  # uint8
    offsets: "np.ndarray"  # int32, one more than there are rows

    @staticmethod
    def of(values: "pa.StringArray") -> "Column":
        """The values, of which none is null; the text is not copied."""
        import numpy as np

        _, offsets, text = values.buffers()
        places = np.frombuffer(offsets or bytes(4), np.int32)[values.offset : values.offset + len(values) + 1]
        return Column(np.frombuffer(text or b"", np.uint8)[places[0] : places[-1]], places - places[0])


def lines(columns: Sequence[Column], pieces: Sequence[bytes]) -> list[memoryview]:
    """The line of each row: the constant `pieces`, and between them the columns' values, escaped.

    There is one piece more than there are columns; pieces are written as they are.
    """
    import numpy as np

    rows = len(columns[0].offsets) - 1
    # The loop takes one text and one table of places in it.
    text = np.concatenate([column.text for column in columns])
    begins = np.cumsum([0, *(len(column.text) for column in columns[:-1])])
    offsets = np.stack([begin + column.offsets for begin, column in zip(begins, columns, strict=True)])
    constant, cuts = bytearray().join(pieces), np.cumsum([0, *map(len, pieces)])
    # One byte more: the loop writes a second byte even where the last one needs none.
    out = np.empty(LONGEST * len(text) + len(constant) * rows + 1, np.uint8)
    ends = np.empty(rows + 1, np.int64)
    compiled()(text, offsets, np.frombuffer(constant, np.uint8), cuts, out, ends)
    out.resize(ends[-1], refcheck=False)  # gives the rest back; what is left is not copied
    written = memoryview(out)
    return [written[start:end] for start, end in itertools.pairwise(ends.tolist())]


@functools.cache
def compiled() -> Callable[..., None]:
    """The loop, compiled by the first call; processes that are forked after it share the code."""
    import numba
    import numpy as np

    escaped = [_escape(chr(byte)) for byte in range(128)] + ["."] * 128
    width = np.array([len(text) for text in escaped], np.uint8)
    first = np.arange(256, dtype=np.uint8)
    first[width > 1] = ord("\\")
    second = np.array([ord(text[1:2] or ".") for text in escaped], np.uint8)
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    # Unsigned places: a signed one may count from the end in Python, which costs a question for each byte.
    place, zero, one, two, three, four = np.uint64, *np.arange(5, dtype=np.uint64)

    def write(text, offsets, pieces, cuts, out, ends) -> None:
        """Write the lines to `out`; that of a row becomes out[ends[row]:ends[row + 1]]."""
        columns, at = len(offsets), zero
        ends[0] = at
        for row in range(len(ends) - 1):
            for column in range(columns + 1):
                for byte in pieces[cuts[column] : cuts[column + 1]]:
                    out[at] = byte
                    at += one
                if column == columns:
                    break
                for n in range(place(offsets[column, row]), place(offsets[column, row + 1])):
                    byte = text[n]
                    # Without a branch for each byte: the next one overwrites a second that was none.
                    out[at] = first[byte]
                    out[at + one] = second[byte]
                    at += place(width[byte])
                    if width[byte] == LONGEST:
                        out[at - four] = out[at - three] = ord("0")
                        out[at - two] = digits[byte >> 4]
                        out[at - one] = digits[byte & 15]
            ends[row + 1] = at

    return numba.njit("(uint8[::1], int64[:, ::1], uint8[::1], int64[::1], uint8[::1], int64[::1])")(write)
