"""One thing that was looked at, and its line: what `make doctor` and an image's self-test print."""

from dataclasses import dataclass

OK = "ok"
MISSING = "missing"  # a stage needs it: fails the whole
ABSENT = "absent"  # only closes a way that nobody asked for
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


def missing(name: str, found: str, advice: str = "") -> Check:
    """It is not there, or not as it should be."""
    return Check(name, MISSING, found, advice)


def absent(name: str, found: str, advice: str = "") -> Check:
    """It is not there, which only closes a way that nobody asked for."""
    return Check(name, ABSENT, found, advice)
