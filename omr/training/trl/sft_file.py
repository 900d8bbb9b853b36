"""Rows of an SFT file by number, also of one that is larger than memory.

An index of line offsets (8 bytes a row) is made once and memory-mapped; a row is read when it is asked for.
"""

import json
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING

from omr.errors import OmrError
from omr.files import writing

if TYPE_CHECKING:
    import numpy

BLOCK = 1 << 24  # bytes that are searched for line ends at a time


class SftFile:
    """The first `limit` rows of a JSON-lines file (None: all), counted from 0.

    `index` is where the line offsets are kept. An OmrError says that it was made from another file.
    """

    def __init__(self, path: Path, index: Path, limit: int | None = None) -> None:
        import numpy as np

        self.path, self._index = path, index
        if not index.exists():
            with writing(index) as aside, aside.open("wb") as out:
                np.save(out, _line_offsets(path))
        try:
            self._offsets = np.load(index, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, SyntaxError, TokenError):  # a header that is no Python
            self._offsets = np.zeros(0)
        if self._offsets.dtype != np.uint64 or self._offsets.ndim != 1 or not len(self._offsets):
            raise self._no_index()
        if self._offsets[-1] != path.stat().st_size:
            raise OmrError(f"{path}: is no longer the file that {index} was made from; remove {index.name}")
        self.rows_in_file = len(self._offsets) - 1  # whatever the limit
        self._rows = min(limit or self.rows_in_file, self.rows_in_file)
        self._file = path.open("rb")

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, number: int) -> tuple[str, str]:
        """`input` and `output` of a row. An OmrError names a row that does not have both as text.

        It names the index where that is why.
        """
        start, end = int(self._offsets[number]), int(self._offsets[number + 1])
        if not 0 <= start < end <= int(self._offsets[-1]):
            raise self._no_index()
        self._file.seek(start)
        line = self._file.read(end - start)
        try:
            return texts_of(line, self.path, number)
        except OmrError:
            if not self._is_line(start, line):
                raise self._no_index() from None
            raise

    def _is_line(self, start: int, text: bytes) -> bool:
        """Whether a text that was read from `start` on is one whole line of the file."""
        self._file.seek(max(0, start - 1))
        begins = start == 0 or self._file.read(1) == b"\n"
        ends = text.endswith(b"\n") or start + len(text) == int(self._offsets[-1])
        return begins and ends and b"\n" not in text[:-1]

    def _no_index(self) -> OmrError:
        return OmrError(f"{self._index}: is no list of where the rows of {self.path.name} begin; remove it")


def texts_of(line: bytes, path: Path, number: int) -> tuple[str, str]:
    """`input` and `output` of a line of `path`; an OmrError names the row, counted from 0, that lacks one."""
    try:
        row = json.loads(line)
        prompt, response = row["input"], row["output"]
        if not (isinstance(prompt, str) and isinstance(response, str)):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise OmrError(
            f"{path}: row {number + 1} has no text for input and output; make data FORCE=1"
        ) from None
    return prompt, response


def _line_offsets(path: Path) -> "numpy.ndarray":
    """Byte offset of each line's begin, and of the file's end: uint64, shape (lines + 1,)."""
    import numpy as np

    found, at = [np.zeros(1, np.uint64)], 0
    with path.open("rb") as handle:
        while block := handle.read(BLOCK):
            ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + 1
            found.append(ends.astype(np.uint64) + np.uint64(at))
            at += len(block)
    offsets = np.concatenate(found)
    return offsets if offsets[-1] == at else np.append(offsets, np.uint64(at))
