"""The two ways to end badly, each one line: what it is, where it is, what to do next."""

import difflib
import io
import sys
from collections.abc import Iterable


class OmrError(Exception):
    """It ran and failed (exit code 1)."""

    exit_code = 1


class RequestError(OmrError):
    """What was asked for cannot work, and nothing was written (exit code 2)."""

    exit_code = 2


def output_never_fails() -> None:
    """Have stdout and stderr write `?` for what their encoding lacks: a status line must fail no work."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def listing(words: Iterable[str], last: str = "or") -> str:
    """`a, b or c`."""
    words = list(words)
    return f" {last} ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def printable(text: str) -> str:
    """Text of others as a part of one line: what would end it or move the cursor is spelled out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shown(text: str) -> str:
    """Text out of a file, as an error's one line can have it: printable, at most 80 characters."""
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= 80 else f"{text[:79]}…"


def nearest(word: str, choices: Iterable[str]) -> str:
    """` (did you mean X?)` for a likely slip of the keyboard, else an empty string."""
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def choose(name: str, value: str | None, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`; else a RequestError that lists them."""
    choices = list(choices)
    if value is None:
        raise RequestError(f"{name} is not set; choose {name}={listing(choices)}")
    if value not in choices:
        raise RequestError(f"{name}={value} is unknown; choose {listing(choices)}")
    return value
