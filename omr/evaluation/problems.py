"""Problems that a model is asked: read from a file or made for the tiny recipe, checked, put into prompts."""

import codecs
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omr import recipe
from omr.errors import RequestError, listing
from omr.files import refuse_lfs_pointer, twice

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TINY = "tiny held-out"
TINY_TOKENS = 128  # twice the longest of its ordinary solutions
# How files begin that are no text, and what they are.
NO_TEXT = {
    b"PK\3\4": "a spreadsheet or zip archive",
    b"\x1f\x8b": "compressed by gzip",
    b"PAR1": "a parquet file",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}
LONGEST_LINE = 10_000_000  # bytes of a problem's line, far beyond what a model can be asked


@dataclass(frozen=True)
class Problem:
    """A problem, with `problem` or `input` set."""

    expected_answer: str
    problem: str | None = None  # asked in the recipe's prompt, as in training
    input: str | None = None  # asked as it stands, also where `problem` is set

    def as_json(self) -> dict[str, str]:
        """As in a file of problems, with the texts that are set."""
        texts = {"problem": self.problem, "input": self.input, "expected_answer": self.expected_answer}
        return {key: text for key, text in texts.items() if text is not None}


@dataclass(frozen=True)
class ProblemSet:
    """Problems from one source, and how long an answer may be."""

    source: str  # in words for a table: the file, or TINY
    problems: tuple[Problem, ...]
    max_tokens: int  # of an answer

    @property
    def digest(self) -> str:
        """Hex digest of the problems and of the answers' limit."""
        rows = [problem.as_json() for problem in self.problems]
        text = json.dumps([rows, self.max_tokens], ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def load_problems(run: recipe.Run, file: Path | None, max_tokens: int | None) -> ProblemSet:
    """The problems of `file`, or without one the tiny corpus's own.

    `max_tokens` is by default the run's sequence length. A RequestError names what is missing or malformed.
    """
    tiny = run.model.corpus == "tiny"
    limit = max_tokens or (TINY_TOKENS if tiny else run.model.sequence_length)
    if file:
        return ProblemSet(str(file), tuple(_read(file)), limit)
    if not tiny:
        raise RequestError(
            f"{run.title}: PROBLEMS is not set; name a JSON-lines file with problem and expected_answer"
        )
    from omr.tiny import corpus

    return ProblemSet(TINY, tuple(Problem(**row) for row in corpus.held_out()), limit)


class _Number(str):
    """A number of JSON as it is spelled there: 2.50 stays 2.50."""


def _read(file: Path) -> Iterator[Problem]:
    """The problems of a JSON-lines file in UTF-8; blank lines and a byte order mark do not count."""
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
    for key, value in (*texts.items(), ("expected_answer", row["expected_answer"])):
        if fault := _fault(value, may_be_number=key == "expected_answer"):
            raise RequestError(f"{where}: {key} {fault}")
    return Problem(str(row["expected_answer"]), **texts)


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


def prompt_texts(
    run: recipe.Run, problems: Sequence[Problem], tokenizer: "PreTrainedTokenizerBase"
) -> list[str]:
    """The text that the model is given for each problem: the run's prompt of written-out solutions (cot)."""
    from omr.data import prompts

    prompt = None
    if any(problem.input is None for problem in problems):
        prompt = prompts.load(recipe.CORPORA[run.model.corpus], "cot", tokenizer)
    return [
        prompt.fill({"problem": problem.problem}) if problem.input is None else problem.input
        for problem in problems
    ]
