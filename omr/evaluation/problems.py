"""Problems that a model is asked: read from a file or made for the tiny recipe, checked, put into prompts."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omr import recipe
from omr.errors import RequestError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TINY = "tiny held-out"
TINY_TOKENS = 128  # twice the longest of its ordinary solutions


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


def _read(file: Path) -> Iterator[Problem]:
    """The problems of a JSON-lines file; blank lines do not count."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{file}: cannot be read ({error}); name a JSON-lines file of problems") from None
    if not any(line.strip() for line in lines):
        raise RequestError(f"{file}: has no problems")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            texts = {key: row.get(key) for key in ("problem", "input")}
            texts = {key: text for key, text in texts.items() if isinstance(text, str) and text}
            if not texts:
                raise KeyError
            yield Problem(str(row["expected_answer"]), **texts)
        except (ValueError, KeyError, AttributeError, TypeError):
            raise RequestError(
                f"{file}: line {number} has not expected_answer and one of problem or input"
            ) from None


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
