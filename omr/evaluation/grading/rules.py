r"""Whether an answer is right: its last box, judged as the published evaluation does it, and by exact value.

`published` reaches the verdict of NeMo-Skills' grader (nemo_skills/evaluation/math_grader.py at the pinned
commit) by the same library calls; the published accuracies were counted so. It rounds decimals to 6 places
and drops differences under 1e-15, so that 0.785398 is right for π/4 and 1/2^99 for 1/2^98, and it compares
whole numbers as texts, so that 007 is wrong for 7. `strict` does neither (exact.py).

Nothing here keeps a limit of time: pool.py calls it in a process that the kernel ends.
"""

import functools
import importlib.metadata
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sympy import Basic, MatrixBase

VERSION = 1  # of the rules here, in exact.py and in worker.py; a new one has kept answers graded again
LIBRARIES = ("math-verify", "latex2sympy2-extended", "sympy")  # whose versions can change a verdict
CHOICES = tuple("ABCDEFGHIJ")
LITERAL = re.compile(r"[a-zA-Z ,]+|[0-9 ]+")  # what is compared as text once it is normalised
IN_MATH_MODE = re.compile(r"\$.*\$|\\\(.*\\\)|\\\[.*\\\]|\\boxed\{", re.DOTALL)


class Outcome(StrEnum):
    """What grading an answer comes to."""

    RIGHT = "right"
    WRONG = "wrong"
    TIMEOUT = "timeout"  # no verdict within the limits of time and memory; counts as not right


@dataclass(frozen=True)
class Verdict:
    """An answer's two outcomes."""

    published: Outcome  # as the published evaluation has it; accuracies count this one
    strict: Outcome  # by exact value, without rounding

    @property
    def differs(self) -> bool:
        """Whether one of them is right and the other is not."""
        return (self.published is Outcome.RIGHT) != (self.strict is Outcome.RIGHT)


def identity() -> str:
    """What decides a verdict beside the answer: the rules' version and the libraries'."""
    return ", ".join([f"grading {VERSION}", *(f"{name} {_version(name)}" for name in LIBRARIES)])


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def boxed(text: str) -> str | None:
    r"""What stands in the last \boxed{…} of an answer; None without one, or where its braces do not close."""
    start = text.rfind("\\boxed")
    begin = start + len("\\boxed{")
    if start < 0 or text[begin - 1 : begin] != "{":
        return None
    depth = 0
    for at in range(begin - 1, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[begin:at]
    return None


def published(expected: str, given: str) -> bool:
    """Whether the published grader takes `given`, the content of a box, for `expected`.

    Both are plain text; math_verify.verify rounds decimals to 6 places. What the libraries raise is raised.
    """
    from math_verify import verify

    settled = as_text(expected, given)
    if settled is not None:
        return settled
    # Their own limits are signals that end a comparison silently; the process has one that is counted.
    return verify(values(expected), values(given), numeric_precision=15, timeout_seconds=None)


def strict(expected: str, given: str) -> bool:
    r"""Whether `given` is `expected` as text, or has its value: exactly, decimals to 15 digits.

    A trailing `%` or full stop, choices and words are taken as by `published`; words may stand in \text{…}.
    """
    expected, given = plain_words(expected), plain_words(given)
    settled = as_text(expected, given)
    if settled is False:
        one, other = (normalised(text).replace(" ", "") for text in (expected, given))
        return one.isdecimal() and other.isdecimal() and one.lstrip("0") == other.lstrip("0")
    if settled:
        return True
    return any(_same(one, other) for one in values(expected) for other in values(given))


def _same(one: "Basic | MatrixBase | str", other: "Basic | MatrixBase | str") -> bool:
    """Two values by exact comparison, two spellings as they stand."""
    from omr.evaluation.grading import exact

    if isinstance(one, str) or isinstance(other, str):
        return isinstance(one, str) and isinstance(other, str) and bool(one.strip()) and one == other
    return exact.same(one, other)


def as_text(expected: str, given: str) -> bool | None:
    """The verdict where it needs no mathematics; None where values have to be compared."""
    from math_verify import verify

    if expected.strip() in CHOICES and verify(_choice(expected), _choice(given), timeout_seconds=None):
        return True
    one, other = normalised(expected), normalised(given)
    equal = one.replace(" ", "") == other.replace(" ", "")
    literal = LITERAL.fullmatch(one) and LITERAL.fullmatch(other)
    return equal if literal or equal else None


def plain_words(text: str) -> str:
    r"""`Yes` for `\text{Yes}`."""
    words = re.fullmatch(r"\s*\\(?:text|textbf|textit|textrm|mathrm|mbox)\{([^{}]*)\}\s*", text)
    return words[1] if words else text


def trimmed(text: str) -> str:
    r"""Without the percent sign of a plain number, and without the `.` and `\` that end a sentence."""
    percentage = re.fullmatch(r"(\d+\.?\d*)\\?%", text)
    return (percentage[1] if percentage else text).rstrip(".\\")


@functools.lru_cache(4096)
def normalised(text: str) -> str:
    """The trimmed text in latex2sympy2_extended's plainest spelling."""
    from latex2sympy2_extended import NormalizationConfig, normalize_latex

    return normalize_latex(trimmed(text), NormalizationConfig())


@functools.lru_cache(4096)
def values(text: str) -> "list[Basic | MatrixBase | str]":
    """What math_verify reads in a text: its value and its spelling, or nothing at all."""
    from math_verify import LatexExtractionConfig, parse

    text = trimmed(text)
    latex = text if IN_MATH_MODE.search(text) else f"${text}$"
    return parse(latex, [LatexExtractionConfig()], parsing_timeout=None)


def _choice(text: str) -> "list[Basic | MatrixBase | str]":
    """The letter that a text chooses, as math_verify finds it."""
    from math_verify import StringExtractionConfig, parse

    return parse(text, [StringExtractionConfig(strings=CHOICES)], parsing_timeout=None)
