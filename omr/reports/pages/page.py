"""Sections of a page: words, tables, figures, commands; and the page that they make."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omr.reports.pages.plots import Figure

TEMPLATE = Path(__file__).with_name("page.html.j2")
# A cell that stands to the right, so that digits are above digits: `12`, `1,200 ± 7`, `5.6 MB`, `+1.5 %`.
NUMBER = re.compile(r"[-+−±]?\d[\d,.]*(e[-+]?\d+)?( ?(%|[kMGT]?B|s|h|min|d|± ?[\d,.]+))?")


@dataclass(frozen=True)
class Bar:
    """A cell with a bar: where it begins and how long it is, as shares of the widest one."""

    start: float
    length: float
    style: str = "s1"  # a class of page.css


@dataclass(frozen=True)
class Link:
    """A cell that leads to another page of the workspace."""

    text: str
    href: str  # relative to this page


@dataclass(frozen=True)
class Command:
    """A cell with what to type."""

    command: str


Cell = str | int | Bar | Link | Command


@dataclass(frozen=True)
class Section:
    """A heading with a note, a table, plots, and commands.

    A column of numbers stands to the right. Rows without a header are names and their values.
    """

    title: str
    text: str = ""
    header: Sequence[str] = ()
    rows: Sequence[Sequence[Cell]] = ()
    figures: Sequence[Figure] = field(default_factory=tuple)
    commands: Sequence[str] = ()
    after: str = ""  # a note below all of it
    stacks: bool = False  # on a telephone each row becomes lines under each other, for tables of words

    @property
    def anchor(self) -> str:
        """What links within the page lead to."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")

    def numeric(self, column: int) -> bool:
        """Whether a column has numbers alone."""
        cells = [row[column] for row in self.rows if len(row) > column and row[column] not in ("", "–")]
        return bool(cells) and all(
            isinstance(cell, int) or (isinstance(cell, str) and NUMBER.fullmatch(cell)) for cell in cells
        )


def render(
    title: str, lead: str, sections: Sequence[Section], facts: Sequence[tuple[str, str]] = (), up: str = ""
) -> str:
    """The page as HTML; every value is escaped.

    It begins with a sentence that sums it up and the `facts`, (number, what it is) each; `up` is the
    relative address of the page that leads to this one.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    template = environment.get_template(TEMPLATE.name)
    return template.render(title=title, lead=lead, sections=sections, facts=facts, up=up)
