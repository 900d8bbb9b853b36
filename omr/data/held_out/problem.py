"""Which problem a row is of, whichever split it is in and however its text is set.

The hash is of the problem's words in lower case: what stands between them, how lines break, and how a letter
is put together, tells nothing. Where a split's column has a whole user message (GenSelect's), the problem is
what stands in place of {problem} in the prompt that the split `asks` with. A corpus that words one problem in
several ways names what is the same of them, `same_problem`.
"""

import hashlib
import re
import string
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from omr.data import prompts
from omr.errors import RequestError
from omr.recipe import Corpus
from omr.tiny import corpus as tiny

WORD = re.compile(r"[^\W_]+")
AROUND = 2  # lines of the prompt on either side that tell the place of a problem
BLANK = r"[^\S\n]"  # and no end of a line
FORM = 1  # of the hash and the place: a new number makes every file with held-out rows anew
# What `same_problem` names in a recipe; omr/recipe/formulas.py has the names.
SAME: Mapping[str, Callable[[str], str]] = {"sum_of": tiny.sum_of}


def hashed(corpus: Corpus, problem: str) -> int:
    """64 bits that stand for a problem."""
    if corpus.same_problem:
        problem = SAME[corpus.same_problem.removesuffix("()")](problem)
    words = " ".join(WORD.findall(unicodedata.normalize("NFKC", problem).lower()))
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
        return found[1].strip() if found else None


def place(corpus: Corpus, split: str) -> Place:
    """Where a split's rows have their problem; a RequestError for a prompt without one."""
    prompt = corpus.prompts[split]
    if prompt.config is not None or prompt.asks is None:
        return Place()
    path = prompts.config_file(corpus, prompt.asks)
    try:
        pieces = _pieces(prompts.read_yaml(path)["user"])
    except ValueError as error:
        raise RequestError(f"{path}: cannot be filled ({error}); double a brace that is text") from None
    at = next((n for n, (_, field) in enumerate(pieces) if field == prompts.PROBLEM), None)
    if at is None:
        raise RequestError(
            f"{path}: has no {{{prompts.PROBLEM}}}, so that VALIDATION cannot tell which problem a row of"
            f" {split} is of; leave {split} out by MODES"
        )
    before, after = pieces[at][0], pieces[at + 1][0]
    return Place(prompt.asks, _begin(before) + r"(.*?)" + _end(after))


def _pieces(user: str) -> list[tuple[str, str | None]]:
    """The texts of a message of str.format, each with the field behind it; the last has none."""
    found, text = [], ""
    for literal, field, _, _ in string.Formatter().parse(user):
        text += literal  # a doubled brace ends one, too
        if field is not None:
            found.append((text, field))
            text = ""
    return [*found, (text, None)]


def _begin(piece: str) -> str:
    """What stands before the problem: the last lines of the prompt's piece, from a line's begin on."""
    lines = _lines(piece)[-AROUND:]
    return rf"(?:\A|\n){BLANK}*{_words(lines)}\s*+" if lines else r"\A\s*+"


def _end(piece: str) -> str:
    """What stands behind it: the first lines of the next piece, each a whole line where it is one there.

    A problem may have the words of such a line somewhere in its own.
    """
    lines = _lines(piece)[:AROUND]
    if not lines:
        return r"\Z"
    begins = rf"\n{BLANK}*" if piece.lstrip(" \t\r").startswith("\n") else BLANK + "*"
    ends = rf"{BLANK}*(?:\n|\Z)" if piece.partition(lines[-1])[2].lstrip(" \t\r").startswith("\n") else ""
    return begins + _words(lines) + ends


def _lines(piece: str) -> list[str]:
    return [line for line in piece.split("\n") if line.strip()]


def _words(lines: list[str]) -> str:
    """These words, whatever blanks stand between."""
    return r"\s+".join(re.escape(word) for line in lines for word in line.split())
