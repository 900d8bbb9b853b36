"""One thing that was looked at, and its line: what `make doctor` and an image's self-test print."""

from dataclasses import dataclass

from omr.errors import OmrError

OK = "ok"
WARN = "warn"  # it would cost time or room, or nobody could look
FIX = "fix"  # it would stop what was asked for
ABSENT = "absent"  # only closes a way that nobody asked for
MISSING = "missing"  # an image lacks it: fails the whole self-test
DECLINED = "declined"  # left out of an image because its build was told so


@dataclass(frozen=True)
class Check:
    """What was found of a thing, and what to do where that is not enough."""

    name: str
    state: str
    found: str
    advice: str = ""

    def line(self) -> str:
        """The check as people read it; one below the other they stand in columns."""
        advice = f"  ({self.advice})" if self.advice else ""
        return f"{self.state:<9} {self.name:<17} {self.found}{advice}"


def ok(name: str, found: str) -> Check:
    """It is as it should be."""
    return Check(name, OK, found)


def warn(name: str, found: str, advice: str) -> Check:
    """It works, at a price; `advice` is a command or a setting to type."""
    return Check(name, WARN, found, advice)


def fix(name: str, found: str, advice: str) -> Check:
    """It would stop what was asked for; `advice` is a command or a setting to type."""
    return Check(name, FIX, found, advice)


def missing(name: str, found: str, advice: str = "") -> Check:
    """It is not there, or not as it should be."""
    return Check(name, MISSING, found, advice)


def absent(name: str, found: str, advice: str = "") -> Check:
    """It is not there, which only closes a way that nobody asked for."""
    return Check(name, ABSENT, found, advice)


def of_error(name: str, error: OmrError, otherwise: str = "") -> Check:
    """What a stage would refuse with: its line ends with the next step, behind the last semicolon.

    `otherwise` is the advice for a line that has none.
    """
    text, depth, at = str(error), 0, 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and text.startswith("; ", place):
            at = place
    return fix(name, text[:at] or text, text[at + 2 :] if at else otherwise)
