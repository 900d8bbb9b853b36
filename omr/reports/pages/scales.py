"""Axes: where a number lies on one, the round numbers beside it, a curve of any length in a few columns."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median_low

Point = tuple[float, float]
COLUMNS = 400  # of a curve: about one for each two pixels of the widest figure


@dataclass(frozen=True)
class Tick:
    """A number beside an axis; `at` is its place as a share of the axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`; what is beyond lies at its end. `log`: each power of ten is as long."""

    low: float
    high: float
    step: float = 0.0  # between ticks; 0: whatever suits
    log: bool = False

    @classmethod
    def over(cls, values: Iterable[float], about: int = 4) -> "Scale":
        """From zero, or a round number below the smallest if that is negative, to one above the largest."""
        found = list(values)
        low, high = min(0.0, min(found, default=0.0)), max(found, default=1.0)
        if high <= low:
            high = low + 1.0
        step = round_step(high - low, about)
        return cls(math.floor(low / step) * step, math.ceil(high / step - 1e-9) * step, step)

    @classmethod
    def powers(cls, values: Iterable[float]) -> "Scale":
        """Powers of ten around numbers that are all above zero."""
        logs = [math.log10(value) for value in values]
        low, high = math.floor(min(logs)), math.ceil(max(logs))
        return cls(10.0**low, 10.0 ** max(high, low + 1), log=True)

    def at(self, value: float) -> float:
        """Where a number lies, as a share of the axis."""
        if self.log:
            low, high, value = math.log10(self.low), math.log10(self.high), math.log10(max(value, self.low))
        else:
            low, high = self.low, self.high
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def ticks(self, about: int = 4) -> list[Tick]:
        """Round numbers, `about` so many where the scale has no step of its own; or powers of ten."""
        if self.log:
            powers = range(round(math.log10(self.low)), round(math.log10(self.high)) + 1)
            return [Tick(self.at(10.0**n), f"{10.0**n:,.{max(0, -n)}f}") for n in powers]
        step = self.step or round_step(self.high - self.low, about)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [Tick(self.at(n * step), short(n * step, step)) for n in range(first, last + 1)]


def round_step(length: float, about: int) -> float:
    """1, 2 or 5 times a power of ten, such that `about` of them make `length`."""
    raw = length / about
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * n for n in (1, 2, 5, 10) if power * n >= raw * 0.999)


def short(value: float, step: float) -> str:
    """The text of a tick that is `step` away from the next: `0`, `0.25`, `7,500`, `1.5M`, `5e-05`."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if step >= size / 10:
            return f"{value / size:g}{unit}" if value else "0"
    if step < 1e-3:
        return f"{round(value / step) * step:.3g}"
    return f"{value:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}" if value else "0"


@dataclass(frozen=True)
class Column:
    """The points of a curve that fall into one column of a plot."""

    x: float  # of the middle of them
    low: float
    middle: float  # median
    high: float


def columns(points: Sequence[Point], x: Scale, most: int = COLUMNS) -> list[Column]:
    """A curve in at most so many columns; each point is one of its own where there are no more than that.

    No extreme is lost: each column has the smallest and the largest number of its points.
    """
    if len(points) <= most:
        return [Column(at, y, y, y) for at, y in points]
    bins: dict[int, list[Point]] = {}
    for point in points:
        bins.setdefault(int(x.at(point[0]) * (most - 1)), []).append(point)
    found = []
    for _, inside in sorted(bins.items()):
        ys = [y for _, y in inside]
        found.append(Column(inside[len(inside) // 2][0], min(ys), median_low(ys), max(ys)))
    return found
