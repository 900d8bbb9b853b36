"""Figures: panels one above the other that share an axis, as places and words for page.html.j2 to draw.

It draws them as inline SVG: a template of ours and not matplotlib, because of what a page has to be. Colours
are the page's own, so that figures are light, dark and printed with it. Only curves are stretched to the
width that there is; letters, lines and marks keep their size, so that a telephone shows what a screen does.

Every place is a share of the panel, from its left and its top. Nothing is told by colour alone: curves differ
in their dashes, marks in their shapes.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from omr.reports.pages.scales import COLUMNS, Column, Point, Scale, Tick, columns, round_step

SHAPES = ("dot", "square", "diamond", "triangle", "cross", "ring")  # of the series of a figure, in turn
UNIT = 1000  # a curve's coordinates go from 0 to this in both directions


@dataclass(frozen=True)
class Curve:
    """A line, or the area of a band."""

    path: str  # in SVG's words; numbers alone, never text of a file
    style: str  # classes of page.css


@dataclass(frozen=True)
class Mark:
    """A small shape at a place."""

    x: float
    y: float
    shape: str  # the name of a symbol in page.html.j2
    style: str = ""
    text: str = ""  # shown under the pointer
    low: float | None = None  # with `high`: an error bar
    high: float | None = None


@dataclass(frozen=True)
class Rule:
    """A line across the panel at a value of its x axis."""

    at: float
    text: str = ""
    style: str = "rule"


@dataclass(frozen=True)
class Span:
    """A bar from `x` on, `width` wide."""

    x: float
    width: float
    y: float
    height: float
    style: str = ""
    text: str = ""


@dataclass(frozen=True)
class Panel:
    """One plot. Its figure's panels share the numbers of the x axis, which stand under the last one."""

    title: str
    height: int = 96  # pixels
    x: Sequence[Tick] = ()
    y: Sequence[Tick] = ()
    curves: Sequence[Curve] = ()
    spans: Sequence[Span] = ()
    marks: Sequence[Mark] = ()
    rules: Sequence[Rule] = ()


@dataclass(frozen=True)
class Key:
    """An entry of a figure's legend: a shape, or a piece of a line."""

    text: str
    style: str
    shape: str = ""


@dataclass(frozen=True)
class Figure:
    """Panels under each other, the title of the x axis that they share, and what they show."""

    panels: Sequence[Panel]
    x: str
    caption: str
    keys: Sequence[Key] = field(default_factory=tuple)


@dataclass(frozen=True)
class Series:
    """A curve: its points in order of x, and what it is called."""

    name: str
    points: Sequence[Point]


def _line(points: Sequence[Point]) -> str:
    """An SVG path through points that are shares of the panel."""
    return "M" + " ".join(f"{round(x * UNIT)} {round(y * UNIT)}" for x, y in points)


def curve_panel(
    title: str, points: Sequence[Point], x: Scale, rules: Sequence[Rule] = (), log: bool = False
) -> Panel:
    """A curve over a shared axis: the median of each column, and a band from the smallest to the largest.

    A few numbers beyond four times the 99th of a hundred (the first step, a stalled disk) would press all
    others flat: the axis ends below them, and the title says so. With `log` the axis has powers of ten, if
    all numbers are above zero.
    """
    found = columns(points, x)
    ordered = sorted(y for _, y in points)
    most = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    if log and ordered[0] > 0:
        y, title = Scale.powers(ordered), f"{title}, powers of ten"
    elif ordered[-1] > 4 * most > 0:
        y = Scale.over([ordered[0], 1.25 * most], 3)
        beyond = sum(value > y.high for value in ordered)
        title = f"{title}; {beyond:,} above {y.ticks()[-1].text}, up to {ordered[-1]:,.4g}"
    else:
        y = Scale.over(ordered, 3)
    curves = [Curve(_line([(x.at(c.x), 1 - y.at(c.middle)) for c in found]), "line s1")]
    if len(points) > COLUMNS:
        curves.insert(0, Curve(_band(found, x, y), "band s1"))
    return Panel(title, x=x.ticks(5), y=_down(y.ticks()), curves=curves, rules=rules)


def _band(found: Sequence[Column], x: Scale, y: Scale) -> str:
    upper = [(x.at(c.x), 1 - y.at(c.high)) for c in found]
    lower = [(x.at(c.x), 1 - y.at(c.low)) for c in reversed(found)]
    return f"{_line([*upper, *lower])}Z"


def _down(ticks: Sequence[Tick]) -> list[Tick]:
    """Ticks of a y axis, whose places are counted from the top."""
    return [replace(tick, at=1 - tick.at) for tick in ticks]


def line_plot(series: Sequence[Series], x: str, y: str, caption: str) -> Figure:
    """A line for each of up to six series; `x` names the axis below, of whole numbers, and `y` the other."""
    ends = [one.points[k][0] for one in series for k in (0, -1)]
    across = Scale(min(ends), max(ends), step=max(1, round_step(max(ends) - min(ends), 5)))
    up = Scale.over(value for one in series for _, value in one.points)
    curves, keys = [], []
    for number, one in enumerate(series, 1):
        places = [(across.at(at), 1 - up.at(value)) for at, value in one.points]
        curves.append(Curve(_line(places), f"line s{number}"))
        keys.append(Key(one.name, f"s{number}"))
    panel = Panel(y, 160, across.ticks(5), _down(up.ticks()), curves)
    return Figure([panel], x, caption, keys if len(keys) > 1 else ())


def error_bars(series: Mapping[str, Mapping[str, tuple[float, float]]], y: str, caption: str) -> Figure:
    """A mark with its error bar for each name -> group -> (value, error); groups stand side by side."""
    groups = list(dict.fromkeys(group for values in series.values() for group in values))
    up = Scale.over(value + error for values in series.values() for value, error in values.values())
    marks, keys = [], []
    for number, (name, values) in enumerate(series.items()):
        shift = (number - (len(series) - 1) / 2) * min(0.18, 0.8 / len(series))
        style, shape = f"s{number + 1}", SHAPES[number % len(SHAPES)]
        keys.append(Key(name, style, shape))
        for group, (value, error) in values.items():
            at = (groups.index(group) + 0.5 + shift) / len(groups)
            ends = (1 - up.at(value - error), 1 - up.at(value + error)) if error else (None, None)
            text = f"{name}, {group}: {value:.1f}" + (f" ± {error:.1f}" if error else "")
            marks.append(Mark(at, 1 - up.at(value), shape, style, text, *ends))
    places = [Tick((n + 0.5) / len(groups), group) for n, group in enumerate(groups)]
    return Figure([Panel(y, 160, places, _down(up.ticks()), marks=marks)], "", caption, keys)


def histogram(
    series: Mapping[str, Sequence[float]],
    edges: Sequence[float],
    x: str,
    y: str,
    caption: str,
    rules: Sequence[Rule] = (),
) -> Figure:
    """The outline of a histogram for each name -> counts, one fewer than the bins' `edges`.

    Every bin is drawn equally wide; a rule between two edges lies there by its share of that bin.
    """
    shown = _shown(series, edges, rules)
    edges = edges[shown.start : shown.stop + 1]
    series = {name: counts[shown] for name, counts in series.items()}
    up, bins = Scale.over(n for counts in series.values() for n in counts), len(edges) - 1
    curves, keys = [], []
    for number, (name, counts) in enumerate(series.items(), 1):
        tops = [(at / bins, 1 - up.at(n)) for k, n in enumerate(counts) for at in (k, k + 1)]
        curves.append(Curve(_line([(0, 1), *tops, (1, 1)]), f"line s{number}"))
        keys.append(Key(name, f"s{number}"))
    every = -(-len(edges) // 8)  # at most eight numbers under it
    places = [Tick(k / bins, f"{edge:,.0f}") for k, edge in enumerate(edges) if k % every == 0]
    lines = [replace(rule, at=_between(edges, rule.at)) for rule in rules]
    panel = Panel(y, 180, places, _down(up.ticks()), curves, rules=[r for r in lines if 0 <= r.at <= 1])
    return Figure([panel], x, caption, keys)


def _shown(series: Mapping[str, Sequence[float]], edges: Sequence[float], rules: Sequence[Rule]) -> slice:
    """The bins from the first that has something, or a rule, to the last."""
    full = [k for k in range(len(edges) - 1) if any(counts[k] for counts in series.values())]
    full += [k for k in range(len(edges) - 1) for rule in rules if edges[k] <= rule.at <= edges[k + 1]]
    return slice(min(full, default=0), max(full, default=len(edges) - 2) + 1)


def _between(edges: Sequence[float], value: float) -> float:
    """Where a value lies among equally wide bins, as a share of all; beyond 0 and 1 where it is in none."""
    for k, (low, high) in enumerate(itertools.pairwise(edges)):
        if low <= value <= high:
            return (k + (value - low) / (high - low)) / (len(edges) - 1)
    return -1.0 if not edges or value < edges[0] else 2.0
