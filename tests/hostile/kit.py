"""Readers of foreign text under attack: what they are given is accepted, or refused in one printable line.

A `Reader` has a file of its kind as it should be, and a function that reads the file as the toolkit does.
`attack` changes the file's bytes, and where it is JSON or YAML its values; `hold` tries one text. A reader
that hangs, takes much memory, leaves its folder or raises anything but an OmrError fails.

`make fuzz` runs the same for long: OMR_FUZZ is the number of tries of each property. With atheris installed
`python -m tests.hostile.coverage READER` lets the coverage of the code lead the way.
"""

import contextlib
import json
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from omr.errors import OmrError, printable

TRIES = int(os.environ.get("OMR_FUZZ", 15))
SECONDS, PATIENCE = 20, 120  # of computing, and of waiting on a busy machine, that a reading may take
LONGEST = 1000  # characters of an error's line


@dataclass(frozen=True)
class Reader:
    """How one kind of file is read."""

    name: str  # of the file, below an empty folder
    good: bytes  # a file of this kind
    read: Callable[[Path], object]
    syntax: str = "bytes"  # json, yaml or lines (of JSON): its values are changed, too
    found: tuple[bytes, ...] = ()  # what broke it once


def hold(reader: Reader, data: bytes, folder: Path) -> str | None:
    """Read a file with this content; the line that refuses it, None where it is accepted."""
    path = folder / reader.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return refusal(lambda: reader.read(path))


def refusal(call: Callable[[], object]) -> str | None:
    """The one line with which a call refuses, None where it does not; no other exception, in little time."""
    line = None
    with limit():
        try:
            call()
        except OmrError as error:
            line = printable(str(error))  # as bin/*.py print it
        except OSError as error:
            assert error.errno and error.filename, error  # these, too
            line = f"{error.filename}: {error.strerror}"
    assert line is None or (line.strip() and len(line) <= LONGEST), line
    return line


@contextlib.contextmanager
def limit():
    """Fails what takes too long; nothing may grow by more than 4 GB meanwhile."""

    def late(*_):
        raise AssertionError(f"computes over {SECONDS} s, or waits over {PATIENCE} s")

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, SECONDS), signal.SIGALRM: (signal.ITIMER_REAL, PATIENCE)}
    before = {number: signal.signal(number, late) for number in timers}
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    most = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 30), most[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, most)
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


# Values that are of no kind that a record has, or of a kind with an edge.
HOSTILE = st.sampled_from(
    [
        *(None, True, -1, 0, 1 << 63, 10**400, 1e308, float("inf"), float("nan"), "", "\0", "\ud800", "a\nb"),
        *("../../etc/passwd", "/etc/passwd", "$(touch pwned)", "`id`", "; rm -rf x", "-u root", "\x1b[2J"),
        *("\u202e", "\u0663", "\u00b2", "9" * 5000, [], [[]], {}, {"": None}, [None], "x" * 10_000),
    ]
)
WORDS = st.text(max_size=20) | st.integers() | st.floats() | HOSTILE


def paths_of(value: Any, at: tuple = ()) -> list[tuple]:
    """The place of every value within a value of JSON."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, one in inner for place in paths_of(one, (*at, key)))]


def changed(value: Any, place: tuple, new: Any, remove: bool) -> Any:
    """A copy of the value with another one at a place, or without it."""
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(place) == 1 and remove:
        del copy[place[0]]
    else:
        copy[place[0]] = changed(copy[place[0]], place[1:], new, remove)
    return copy


@st.composite
def cut_bytes(draw, good: bytes) -> bytes:
    """The file with a few of its bytes replaced, removed, doubled or added, or cut off."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.integers(0, 16))
        new = draw(
            st.binary(max_size=8) | st.sampled_from([b"\0", b"\xff", b"[" * 3000, b'{"a":', b"\n", b"*a"])
        )
        kind = draw(st.sampled_from(["replace", "double", "cut"]))
        if kind == "replace":
            data[at : at + size] = new
        elif kind == "double":
            data[at:at] = data[at : at + size]
        else:
            del data[at:]
    return bytes(data)


@st.composite
def other_values(draw, good: bytes, syntax: str) -> bytes:
    """The file's JSON with one or two of its values exchanged or removed."""
    import yaml

    value = (
        yaml.safe_load(good)
        if syntax == "yaml"
        else json.loads(good.split(b"\n")[0] if syntax == "lines" else good)
    )
    for _ in range(draw(st.integers(1, 2))):
        places = paths_of(value)
        place = places[draw(st.integers(0, len(places) - 1))]
        value = changed(value, place, draw(WORDS), draw(st.integers(0, 3)) == 0)
    if syntax == "yaml":  # JSON is YAML, but for its numbers without end
        return json.dumps(value).replace("Infinity", ".inf").replace("NaN", ".nan").encode()
    return json.dumps(value).encode()


def attack(reader: Reader, folder: Path) -> None:
    """Try the reader with its good file, with what was found before, and with changes of the good file."""
    assert hold(reader, reader.good, folder) is None
    nesting = b"[" * 100_000
    cases = [*reader.found, b"", b"\0", b"\xff\xfe", nesting, b'{"a":' * 100_000, b"null", b"9" * 5000, b"{}"]
    for case in cases:
        hold(reader, case, folder)
    strategy = cut_bytes(reader.good)
    if reader.syntax != "bytes":
        strategy |= other_values(reader.good, reader.syntax)

    @settings(
        max_examples=TRIES,
        deadline=None,
        database=None,
        derandomize="OMR_FUZZ" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    @example(reader.good)
    def tried(data):
        hold(reader, data, folder)

    tried()
    left = {path for path in folder.parent.rglob("*") if "pwned" in path.name}
    assert not left and not Path("pwned").exists(), "something was executed"
