"""Columns of texts -> JSON lines in one piece of memory: the inner loop of the data stage (json_lines.ll).

Each byte is looked at once, BLOCK at a time: whether a block has one to escape is a single comparison of
vectors, so a text moves at several times the speed of three calls of bytes.replace, without the copies
around them. LLVM compiles it where it is imported, for this processor, in a twentieth of a second: numba,
which makes the same code from Python, takes twelve times as long, and its cache on the disk would be pickle.
"""

import ctypes
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import llvmlite.binding as llvm
import numpy as np

BLOCK = 32  # bytes at a time, as escape.ll has it
WORST = 6  # bytes that one may become: \u001f


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

    texts: tuple[np.ndarray, ...]  # of bytes, one for each value
    offsets: tuple[np.ndarray, ...]  # of int32, of one place more than there are rows
    pieces: np.ndarray  # bytes
    cuts: np.ndarray  # int64, of two places more than there are values

    def __len__(self) -> int:
        """Rows."""
        return len(self.offsets[0]) - 1

    def need(self, row: int) -> int:
        """See Source."""
        values = sum(int(of[row + 1]) - int(of[row]) for of in self.offsets)
        return int(self.cuts[-1]) + WORST * values + BLOCK

    def write(self, first: int, out: np.ndarray, used: int, ends: np.ndarray) -> int:
        """See Source."""
        texts, sizes, offsets = self._places
        columns = len(self.texts), texts.ctypes.data, sizes.ctypes.data, offsets.ctypes.data
        pieces = _place(self.pieces, np.uint8), _place(self.cuts, np.int64)
        into = _place(out, np.uint8), len(out), used, _place(ends, np.int64)
        return _write(*columns, *pieces, first, min(len(self), first + len(ends)), *into)

    @functools.cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where the texts are, their sizes, and where the offsets are."""
        texts = np.array([_place(text, np.uint8) for text in self.texts], np.uintp)
        offsets = np.array([_place(of, np.int32) for of in self.offsets], np.uintp)
        return texts, np.array([len(text) for text in self.texts], np.int64), offsets


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


def _place(array: np.ndarray, kind: type) -> int:
    """The address of an array, which the compiled loop takes for one of `kind` without a gap."""
    if array.dtype != kind or array.ndim != 1 or not array.flags.c_contiguous:
        raise TypeError(f"{array.dtype} array where one of {np.dtype(kind)} without gaps is needed")
    return array.ctypes.data


def _compiled() -> tuple[Callable, llvm.ExecutionEngine]:
    """The loop of escape.ll, and what holds its code."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(Path(__file__).with_suffix(".ll").read_text(encoding="utf-8"))
    processor = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    machine = llvm.Target.from_default_triple().create_target_machine(*processor, opt=3)
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(module, builder)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    number, place = ctypes.c_int64, ctypes.c_void_p
    columns, rows, into = [number, *[place] * 5], [number] * 2, [place, number, number, place]
    kind = ctypes.CFUNCTYPE(number, *columns, *rows, *into)
    return kind(engine.get_function_address("write")), engine


_write, _engine = _compiled()
