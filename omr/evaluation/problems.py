"""Problems that a model is asked: read from JSON lines, and checked."""

import codecs
import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from omr.errors import RequestError, listing
from omr.files import refuse_lfs_pointer, twice

# How files begin that are no text, and what they are.
NO_TEXT = {
    b"PK\3\4": "a spreadsheet or zip archive",
    b"\x1f\x8b": "compressed by gzip",
    b"PAR1": "a parquet file",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}
SUBSET = "subset_for_metrics"  # NeMo-Skills' key of a part that is counted apart
LONGEST_LINE = 10_000_000  # bytes of a problem's line, far beyond what a model can be asked


@dataclass(frozen=True)
class Problem:
    """A problem, with `problem` or `input` set."""

    expected_answer: str
    problem: str | None = None  # asked in the recipe's prompt, as in training
    input: str | None = None  # asked as it stands, also where `problem` is set
    subset: str | None = None  # counted apart

    @cached_property
    def id(self) -> str:
        """Names the problem in files of answers, by its texts alone."""
        text = json.dumps([self.problem, self.input], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class ProblemSet:
    """Problems from one source."""

    source: str  # a benchmark's name, or a file's path
    problems: tuple[Problem, ...]

    @property
    def digest(self) -> str:
        """Hex digest of the problems, and of what is expected."""
        rows = [[p.problem, p.input, p.expected_answer, p.subset] for p in self.problems]
        return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()


class _Number(str):
    """A number of JSON as it is spelled there: 2.50 stays 2.50."""


def read(file: Path) -> Iterator[Problem]:
    """The problems of a JSON-lines file in UTF-8; blank lines and a byte order mark do not count.

    A RequestError names the line that is malformed.
    """
    found = False
    try:
        with file.open("rb") as lines:
            for number in itertools.count(1):
                line = lines.readline(LONGEST_LINE + 1)
                if not line:
                    break
                if number == 1:
                    _refuse_other_kinds(file, line)
                    line = line.removeprefix(codecs.BOM_UTF8)
                if line.strip():
                    found = True
                    yield _problem(line, f"{file}: line {number}")
    except OSError as error:
        raise RequestError(
            f"{file}: cannot be read ({error.strerror}); name a JSON-lines file of problems"
        ) from None
    if not found:
        raise RequestError(f"{file}: has no problems; give it a line of JSON for each")


def _refuse_other_kinds(file: Path, start: bytes) -> None:
    """A RequestError for a file whose first bytes are not those of JSON lines."""
    refuse_lfs_pointer(file, "name another file of problems")
    for mark, kind in NO_TEXT.items():
        if start.startswith(mark):
            raise RequestError(f"{file}: is {kind}; save it as JSON lines in UTF-8")


def _problem(line: bytes, where: str) -> Problem:
    """The problem of a line; a RequestError says of `where` what is wrong there."""
    row = _row(line, where)
    texts = {key: row[key] for key in ("problem", "input") if row.get(key) is not None}
    missing = [] if texts else ["problem or input"]
    missing += [] if "expected_answer" in row else ["expected_answer"]
    if missing:
        keys = ", ".join(map(ascii, row))[:100] or "nothing"
        raise RequestError(
            f"{where} has no {listing(missing, 'and no')}, only {keys}; add or rename the keys"
        )
    subset = row.get(SUBSET)
    given = {**texts, "expected_answer": row["expected_answer"], **({SUBSET: subset} if subset else {})}
    for key, value in given.items():
        if fault := _fault(value, may_be_number=key == "expected_answer"):
            raise RequestError(f"{where}: {key} {fault}")
    return Problem(str(row["expected_answer"]), **texts, subset=subset or None)


def _row(line: bytes, where: str) -> dict[str, object]:
    """A line's JSON object."""
    if len(line) > LONGEST_LINE:
        raise RequestError(
            f"{where} has over {LONGEST_LINE:,} bytes; is each problem on a line of its own, and no array?"
        )
    try:
        row = json.loads(
            line.decode("utf-8"),
            object_pairs_hook=_without_doubles,
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_no_constant,
        )
    except UnicodeDecodeError as error:
        raise RequestError(f"{where} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except json.JSONDecodeError as error:
        raise RequestError(
            f"{where} is no JSON ({error.msg}, column {error.colno}); a line is one object in braces"
        ) from None
    except (_Odd, RecursionError) as error:
        told = str(error) if isinstance(error, _Odd) else "is nested too deeply; give it texts alone"
        raise RequestError(f"{where} {told}") from None
    if not isinstance(row, dict):
        raise RequestError(
            f"{where} is {_kind(row)}; give an object with expected_answer and problem, or input"
        )
    return row


class _Odd(Exception):
    """JSON that readers take in different ways."""


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if (key := twice(pairs)) is not None:
        raise _Odd(f"has the key {ascii(key)[:60]} twice; keep one")
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise _Odd(f"has {name}, which is no JSON; give a number or a text")


def _kind(value: object) -> str:
    """What a value is, in JSON's words."""
    kinds = {bool: str(value).lower(), _Number: "a number", str: "a text", list: "a list", dict: "an object"}
    return kinds.get(type(value), "null")


def _fault(value: object, may_be_number: bool) -> str | None:
    """What is wrong with a text, and what to do."""
    wanted = "a text or a number" if may_be_number else "a text"
    if not isinstance(value, str) or (isinstance(value, _Number) and not may_be_number):
        return f"is {_kind(value)}; give {wanted}"
    if not value.strip():
        return f"is empty; give {wanted}, or leave the problem out"
    if "\0" in value:
        return "has a NUL character; remove it"
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"has half of a surrogate pair ({ascii(value[error.start])[1:-1]}); write the whole character"
    return None
