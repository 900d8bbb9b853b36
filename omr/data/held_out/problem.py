"""Which problem a row is of, whichever split it is in and however its text is set.

The hash is of the problem's words in lower case: what stands between them, and how lines break, tells
nothing. Where a split's column has a whole user message (GenSelect's), the problem is what stands in place of
{problem} in the prompt that the split `asks` with. A corpus that words one problem in several ways names what
is the same of them, `same_problem`.
"""

import hashlib
import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from omr.data import prompts
from omr.errors import RequestError
from omr.recipe import Corpus
from omr.tiny import corpus as tiny

WORD = re.compile(r"[^\W_]+")
AROUND = 2  # lines of the prompt on either side that tell the place of a problem
# What `same_problem` names in a recipe; omr/recipe/formulas.py has the names.
SAME: Mapping[str, Callable[[str], str]] = {"sum_of": tiny.sum_of}


def hashed(corpus: Corpus, problem: str) -> int:
    """64 bits that stand for a problem."""
    if corpus.same_problem:
        problem = SAME[corpus.same_problem.removesuffix("()")](problem)
    words = " ".join(WORD.findall(problem.lower()))
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "big")


@dataclass(frozen=True)
class Place:
    """Where the problem of a split's rows stands in their column."""

    prompt: str | None = None  # the configuration around it; None: the column is the problem
    pattern: str = ""  # of the whole message, the problem its group

    def find(self, text: str) -> str | None:
        """The problem in a row's text, None where the prompt is not around it."""
        if self.prompt is None:
            return text
        found = re.search(self.pattern, text, re.DOTALL)
        return found[1] if found else None


def place(corpus: Corpus, split: str) -> Place:
    """Where a split's rows have their problem; a RequestError for a prompt without one."""
    prompt = corpus.prompts[split]
    if prompt.config is not None or prompt.asks is None:
        return Place()
    path = prompts.config_file(corpus, prompt.asks)
    try:
        pieces = list(string.Formatter().parse(prompts.read_yaml(path)["user"]))
    except ValueError as error:
        raise RequestError(f"{path}: cannot be filled ({error}); double a brace that is text") from None
    at = next((n for n, (_, field, _, _) in enumerate(pieces) if field == prompts.PROBLEM), None)
    if at is None:
        raise RequestError(
            f"{path}: has no {{{prompts.PROBLEM}}}, so that VALIDATION cannot tell which problem a row of"
            f" {split} is of; leave {split} out by MODES"
        )
    before, after = pieces[at][0], pieces[at + 1][0] if at + 1 < len(pieces) else ""
    begin, end = _lines(before)[-AROUND:], _lines(after)[:AROUND]
    pattern = r"\s*(.*?)\s*".join((_pattern(begin) or r"\A", _pattern(end) or r"\Z"))
    return Place(prompt.asks, pattern)


def _lines(piece: str) -> list[str]:
    return [line for line in piece.split("\n") if line.strip()]


def _pattern(lines: list[str]) -> str:
    """These words, whatever blanks stand between."""
    return r"\s+".join(re.escape(word) for line in lines for word in line.split())
