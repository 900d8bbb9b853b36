"""Columns of texts -> JSON lines in one piece of memory: the inner loop of the data stage, compiled by numba.

Each byte is looked at once, BLOCK at a time: whether a block has one to escape is a single comparison of
vectors, so a text moves at several times the speed of three calls of bytes.replace, without the copies
around them. It is compiled where it is imported, in half a second: numba's cache on the disk would be pickle.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

VALUES = 10  # values in a line; a number that the compiler knows
BLOCK = 32  # bytes at a time
WORST = 6  # bytes that one may become: \u001f

# What stands behind the backslash for each byte, 0 where there is none; `u` for a byte with four digits.
_ESCAPE = np.zeros(256, np.uint8)
_ESCAPE[:32] = ord("u")
for _byte, _letter in zip(b'"\\\b\f\n\r\t', b'"\\bfnrt', strict=True):
    _ESCAPE[_byte] = _letter
_DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8).copy()

_TEXT = types.Array(types.uint8, 1, "C", readonly=True)
_PLACES = types.Array(types.int32, 1, "C", readonly=True)


class Source(Protocol):
    """Rows that write their lines themselves."""

    def __len__(self) -> int:
        """Rows."""
        ...

    def need(self, row: int) -> int:
        """Bytes in which the line of a row fits, whatever is in it."""
        ...

    def write(self, first: int, out: np.ndarray, used: int, ends: np.ndarray) -> int:
        """Write lines from row `first` on to out[used:], as many as surely fit; returns how many.

        ends[k] becomes the end in `out` of the line that is written k-th.
        """
        ...


@dataclass(frozen=True)
class Columns:
    """Rows of constant `pieces` with the values between them, as bytes inside a JSON string.

    Value v of row r is texts[v][offsets[v][r]:offsets[v][r + 1]]; piece p is pieces[cuts[p]:cuts[p + 1]].
    """

    texts: tuple[np.ndarray, ...]  # VALUES arrays of bytes
    offsets: tuple[np.ndarray, ...]  # VALUES arrays of one place more than there are rows
    pieces: np.ndarray
    cuts: np.ndarray

    def __len__(self) -> int:
        """Rows."""
        return len(self.offsets[0]) - 1

    def need(self, row: int) -> int:
        """See Source."""
        values = sum(int(of[row + 1]) - int(of[row]) for of in self.offsets)
        return int(self.cuts[-1]) + WORST * values + BLOCK

    def write(self, first: int, out: np.ndarray, used: int, ends: np.ndarray) -> int:
        """See Source."""
        return _write(self.texts, self.offsets, self.pieces, self.cuts, first, out, used, ends)


@dataclass(frozen=True)
class Whole:
    """Rows whose lines are there already, because something in them is rare."""

    lines: list[bytes]

    def __len__(self) -> int:
        """Rows."""
        return len(self.lines)

    def need(self, row: int) -> int:
        """See Source."""
        return len(self.lines[row])

    def write(self, first: int, out: np.ndarray, used: int, ends: np.ndarray) -> int:
        """See Source."""
        for done, line in enumerate(self.lines[first:]):
            if used + len(line) > len(out):
                return done
            out[used : used + len(line)] = np.frombuffer(line, np.uint8)
            ends[done] = used = used + len(line)
        return len(self.lines) - first


def text(sources: Iterable[Source]) -> bytes:
    """The lines of all sources."""
    found = []
    for source in sources:
        for row in range(len(source)):
            out, ends = np.empty(source.need(row), np.uint8), np.empty(len(source), np.int64)
            source.write(row, out, 0, ends)
            found.append(out[: ends[0]].tobytes())
    return b"".join(found)


@intrinsic
def _copy_block(context, text, i, out, j):  # noqa: ANN202
    """out[j:j + BLOCK] = text[i:i + BLOCK]; returns a bit for each byte that is to be escaped."""

    def generate(context, builder, signature, given):  # noqa: ANN202
        vector = ir.VectorType(ir.IntType(8), BLOCK)

        def at(array, kind, index):  # noqa: ANN202
            data = context.make_array(kind)(context, builder, array).data
            return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())

        block = builder.load(at(given[0], signature.args[0], given[1]), align=1)
        builder.store(block, at(given[2], signature.args[2], given[3]), align=1)

        def is_(how, byte):  # noqa: ANN202
            return builder.icmp_unsigned(how, block, ir.Constant(vector, [byte] * BLOCK))

        found = builder.or_(is_("<", 32), builder.or_(is_("==", ord('"')), is_("==", ord("\\"))))
        return builder.zext(builder.bitcast(found, ir.IntType(BLOCK)), ir.IntType(64))

    return types.uint64(text, types.uint64, out, types.uint64), generate


@intrinsic
def _lowest(context, bits):  # noqa: ANN202
    """The number of the lowest bit that is set; there must be one."""

    def generate(context, builder, signature, given):  # noqa: ANN202
        return builder.cttz(given[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@njit
def _put(text, start, end, out, place):  # noqa: ANN202
    """Escape text[start:end] into `out`; returns the place behind."""
    # Unsigned, or each index would be tested for < 0.
    i, j, stop, one = np.uint64(start), np.uint64(place), np.uint64(end), np.uint64(1)
    while i < stop:
        if i + np.uint64(BLOCK) <= np.uint64(len(text)):
            found = _copy_block(text, i, out, j)
            clean = _lowest(found) if found else np.uint64(BLOCK)
            if clean >= stop - i:
                return np.int64(j + (stop - i))
            i += clean
            j += clean
            if not found:
                continue
        byte = text[i]
        letter = _ESCAPE[byte]
        i += one
        if letter == 0:
            out[j] = byte
        else:
            out[j] = ord("\\")
            j += one
            out[j] = letter
            if letter == ord("u"):
                out[j + one] = ord("0")
                out[j + np.uint64(2)] = ord("0")
                out[j + np.uint64(3)] = _DIGITS[byte >> 4]
                out[j + np.uint64(4)] = _DIGITS[byte & 15]
                j += np.uint64(4)
        j += one
    return np.int64(j)


@njit(
    types.int64(
        types.UniTuple(_TEXT, VALUES),
        types.UniTuple(_PLACES, VALUES),
        types.uint8[::1],
        types.int64[::1],
        types.int64,
        types.uint8[::1],
        types.int64,
        types.int64[::1],
    )
)
def _write(texts, offsets, pieces, cuts, first, out, used, ends):  # noqa: ANN202
    rows = len(offsets[0]) - 1
    place = used
    for row in range(first, rows):
        need = cuts[-1] + BLOCK
        for value in range(VALUES):
            need += WORST * np.int64(offsets[value][row + 1] - offsets[value][row])
        if place + need > len(out):
            return row - first
        for value in range(VALUES + 1):
            for k in range(cuts[value], cuts[value + 1]):
                out[place] = pieces[k]
                place += 1
            if value < VALUES:
                place = _put(texts[value], offsets[value][row], offsets[value][row + 1], out, place)
        ends[row - first] = place
    return rows - first
