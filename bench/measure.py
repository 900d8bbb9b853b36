"""What every measurement shares: ways of one thing, taken in turns, medians, and one table of them."""

import importlib
import os
import platform
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omr.errors import OmrError, choose
from omr.files import write_text

Way = Callable[[], float]  # runs once; returns what was measured, in the case's unit


@dataclass(frozen=True)
class Case:
    """One thing that is done in several ways; ours is the first."""

    what: str
    unit: str  # "s", "ms": less is better; "…/s": more is
    ways: Mapping[str, Way]
    note: str = ""  # what a reader has to know: why a way is missing, what was checked

    @property
    def more_is_better(self) -> bool:
        """Whether a larger number is the faster way's."""
        return self.unit.endswith("/s")


@dataclass(frozen=True)
class Place:
    """Where, and how much, a family of cases measures."""

    scratch: Path  # an empty folder
    rows: int  # raw rows of the corpus, at once the measure of the other families' sizes


def medians(case: Case, repeat: int) -> dict[str, float]:
    """Each way's median of `repeat` runs, in turns, so that a stall of the machine meets every way."""
    taken: dict[str, list[float]] = {name: [] for name in case.ways}
    for _ in range(repeat):
        for name, way in case.ways.items():
            taken[name].append(way())
    return {name: statistics.median(values) for name, values in taken.items()}


def lines(case: Case, found: Mapping[str, float]) -> list[list[str]]:
    """A case's rows of the table: what, way, number, how many times as fast the first way is, note."""
    first = next(iter(found.values()))
    rows = []
    for number, (name, value) in enumerate(found.items()):
        faster = first / value if case.more_is_better else value / first
        rows.append(
            [
                case.what if not number else "",
                name,
                f"{_digits(value)} {case.unit}",
                f"{faster:.2f}" if number else "",
                case.note if not number else "",
            ]
        )
    return rows


HEADER = ("what", "way", "median", "ours is … times as fast", "")


def _digits(value: float) -> str:
    """Three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Markdown."""
    listed = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in listed)


def machine() -> str:
    """The machine in a line: processor, cores, memory, Python, load."""
    name = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
        ]
        name = named[0] if named else name
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    return f"{name}, {cores} cores, {memory:.0f} GB, Python {platform.python_version()}, load {load:.1f} at the start"


def tell(text: str) -> None:
    """A line on the way, beside the table."""
    print(text, file=sys.stderr, flush=True)


def put(text: str, page: Path) -> None:
    """Put a report into a page, between its marks; an OmrError where it has none."""
    marked, old = re.compile(r"(<!-- measured -->\n).*?(<!-- /measured -->)", re.DOTALL), page.read_text()
    if not marked.search(old):
        raise OmrError(f"{page}: has no <!-- measured --> … <!-- /measured -->; name docs/performance.md")
    write_text(page, marked.sub(lambda found: f"{found[1]}{text}\n{found[2]}", old))


FAMILIES = ("data", "tokens", "average", "cluster", "commands", "evaluation", "engine", "gpu")


def chosen(families: Sequence[str]) -> Sequence[str]:
    """The families of these names, all where there are none; a RequestError for another name."""
    return [choose("FAMILIES", name, FAMILIES) for name in families] or FAMILIES


def report(families: Sequence[str], place: Place, repeat: int) -> str:
    """The table of some families' cases, over its machine."""
    over, rows = machine(), []
    for name in families:
        family = importlib.import_module(f"bench.{name}")
        tell(f"{name}: {family.__doc__.splitlines()[0]}")
        for case in family.cases(place):
            tell(f"  {case.what}" + ("" if case.ways else f": {case.note}"))
            rows += lines(case, medians(case, repeat)) if case.ways else [[case.what, "", "", "", case.note]]
    return f"{over}; medians of {repeat}\n\n{table(HEADER, rows)}"
