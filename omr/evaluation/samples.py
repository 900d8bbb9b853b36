"""A model's answers as they are kept: a line of JSON each, added as it comes, never written again.

An evaluation's folder has a file for each of its parts (tasks of an array on Slurm; else one). A part has one
writer. A line that a kill cut off is dropped, and its sample asked again.
"""

import contextlib
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self, TextIO

from omr import files, records
from omr.files import Json

CHECK = "check"  # key of a line's checksum: the CRC-32 of its JSON without it


@dataclass(frozen=True)
class SampleId:
    """Which sample of which problem."""

    problem: str  # Problem.id
    number: int  # from 0; also the seed of its sampling


@dataclass(frozen=True)
class Answer:
    """What a model wrote."""

    text: str  # all of it; with tools, also what they put out
    given: str | None  # what stands in its last box; of GenSelect in that of the chosen solution
    ended: bool  # by itself, and not at the limit of tokens
    tokens: int  # that the model wrote
    executions: int = 0  # of code
    chosen: int | None = None  # of GenSelect: the number of the chosen solution's sample
    judged: bool = True  # of GenSelect: whether the model's judgment named one of the solutions


@dataclass(frozen=True)
class Sample:
    """A kept answer."""

    id: SampleId
    answer: Answer
    seconds: float  # that it took

    def as_line(self) -> str:
        """Its line of JSON."""
        values = {**asdict(self.id), **asdict(self.answer), "seconds": round(self.seconds, 3)}
        return f"{_json({**values, CHECK: _checked(values)})}\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Sample":
        """From a whole line; anything else is a ValueError, KeyError or TypeError.

        So is one that has changed since it was written: other letters would count without a word.
        """
        row = json.loads(line)
        if CHECK in row and row.pop(CHECK) != _checked(row):  # lines of an older version have none
            raise ValueError("the line has changed")
        identity = {"problem": row.pop("problem"), "number": row.pop("number")}
        seconds = records.of(float, row.pop("seconds"))
        return cls(records.of(SampleId, identity), records.of(Answer, row), seconds)


@dataclass(frozen=True)
class Kept:
    """A kept answer without its text."""

    given: str | None
    ended: bool
    tokens: int
    executions: int

    @classmethod
    def of(cls, answer: Answer) -> Self:
        """Of a whole answer."""
        return cls(answer.given, answer.ended, answer.tokens, answer.executions)


def read(folder: Path) -> Iterator[Sample]:
    """Every kept sample of an evaluation, each once; lines that are not whole are passed over."""
    seen: set[SampleId] = set()
    for path in sorted(folder.glob("answers-*.jsonl")):
        with path.open("rb") as lines:
            for line in lines:
                with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    sample = Sample.from_line(line)
                    if sample.id not in seen:
                        seen.add(sample.id)
                        yield sample


class Writer:
    """Adds samples to a part of an evaluation; a context manager, and the part's only writer."""

    def __init__(self, folder: Path, part: str = "0-of-1") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"answers-{part}.jsonl"
        self._stack = contextlib.ExitStack()
        self._out: TextIO

    def __enter__(self) -> Self:
        self._stack.enter_context(files.lock(_lock_of(self._path), str(self._path)))
        _drop_cut_line(self._path)
        self._out = self._stack.enter_context(self._path.open("a", encoding="utf-8", errors="replace"))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def clear(self) -> None:
        """Drop the answers of every part; an OmrError while another part has a writer."""
        for path in sorted(self._path.parent.glob("answers-*.jsonl")):
            if path != self._path:
                with files.lock(_lock_of(path), str(path)):
                    path.unlink()
        self._out.truncate(0)

    def add(self, sample: Sample) -> None:
        """Write a sample; it survives the end of this process at once."""
        self._out.write(sample.as_line())
        self._out.flush()


def _json(values: Json) -> str:
    return json.dumps(values, ensure_ascii=False)


def _checked(values: Json) -> int:
    # Half of a surrogate pair is written as ?, and so it is read again.
    return zlib.crc32(_json(values).encode("utf-8", "replace"))


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _drop_cut_line(path: Path) -> None:
    """Cut a file behind its last whole line."""
    if not path.exists():
        return
    with path.open("rb+") as handle:
        end = handle.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 65536)
            handle.seek(start)
            at = handle.read(end - start).rfind(b"\n")
            if at >= 0:
                end = start + at + 1
                break
            end = start
        handle.truncate(end)
