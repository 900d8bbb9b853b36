"""A self-contained HTML page: titled sections of tables and plots; a browser fetches nothing to show it."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEMPLATE = Path(__file__).with_name("page.html.j2")


@dataclass(frozen=True)
class Figure:
    """A plot as inline SVG (made by `line_plot` or `histogram`, never from data) and what it shows."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading with a note, a table (numbers to the right where there is a header) and plots."""

    title: str
    text: str = ""
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str | int]] = ()
    figures: Sequence[Figure] = field(default_factory=tuple)


def render(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The page as HTML: a title, a sentence that sums it up, and the sections; every value is escaped."""
    import jinja2

    folder = jinja2.FileSystemLoader(TEMPLATE.parent)
    strict = jinja2.StrictUndefined
    environment = jinja2.Environment(loader=folder, autoescape=True, trim_blocks=True, undefined=strict)
    return environment.get_template(TEMPLATE.name).render(title=title, lead=lead, sections=sections)


def line_plot(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]], x: str, y: str, caption: str
) -> Figure:
    """A line for each name -> (xs, ys), which have the same length; `x` and `y` name the axes."""
    return _plot(
        lambda axes: [axes.plot(*points, label=name) for name, points in series.items()], x, y, caption
    )


def error_bars(series: Mapping[str, Mapping[str, tuple[float, float]]], y: str, caption: str) -> Figure:
    """A point with its error bar for each name -> group -> (value, error); groups stand side by side."""
    groups = list(dict.fromkeys(group for values in series.values() for group in values))

    def draw(axes: "Axes") -> None:
        for number, (name, values) in enumerate(series.items()):
            shift = (number - (len(series) - 1) / 2) * 0.15
            places = [groups.index(group) + shift for group in values]
            numbers, errors = zip(*values.values(), strict=True)
            axes.errorbar(places, numbers, yerr=errors, fmt="o", capsize=4, label=name)
        axes.set_xticks(range(len(groups)), groups)

    return _plot(draw, "", y, caption)


def histogram(
    series: Mapping[str, Sequence[float]], edges: Sequence[str], x: str, y: str, caption: str
) -> Figure:
    """The outline of a histogram for each name -> counts, one fewer than the bins' `edges`; every bin is
    drawn equally wide."""
    places = list(range(len(edges)))

    def draw(axes: "Axes") -> None:
        for name, counts in series.items():
            axes.stairs(counts, places, label=name)
        axes.set_xticks(places, edges, rotation=45)

    return _plot(draw, x, y, caption)


def _plot(draw: Callable[["Axes"], object], x: str, y: str, caption: str) -> Figure:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    # A fixed salt and no date: the same numbers give the same bytes.
    with pyplot.rc_context({"svg.hashsalt": "omr", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure, axes = pyplot.subplots(figsize=(8, 3.2), layout="constrained")
        draw(axes)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.grid(alpha=0.3)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        if len(axes.get_legend_handles_labels()[0]) > 1:
            axes.legend(frameon=False)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    svg = text.getvalue()
    return Figure(svg[svg.index("<svg") :], caption)
