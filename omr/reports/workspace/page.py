"""One page for the workspace: every run, model and data file, its state, its disk, and what to type next."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from omr.files import human, write_text
from omr.reports import pages
from omr.reports.pages import Command, Link, Section
from omr.reports.pages.page import Cell
from omr.reports.workspace.inventory import Inventory, Item
from omr.workspace import Workspace

MADE = {
    "Runs": "make train MODEL=tiny trains the first one.",
    "Models": "make model MODEL=tiny makes the first one.",
    "Data": "make data DATASET=tiny makes the first file.",
}


def write(found: Inventory, workspace: Workspace) -> None:
    """Write the page; it links the runs' own."""
    text = pages.render(
        f"Workspace {found.root.name}", lead(found), list(_sections(found)), list(_facts(found))
    )
    write_text(workspace.report, f"{text.rstrip()}\n")


def lead(found: Inventory) -> str:
    """The workspace in a sentence."""
    states = Counter(run.state for run in found.runs)
    runs = f" ({', '.join(f'{n} {state}' for state, n in states.items())})" if states else ""
    return (
        f"{found.root}: {_count(len(found.runs), 'run')}{runs}, {_count(len(found.models), 'model')},"
        f" {_count(len(found.data), 'data file')}; {human(found.size.bytes)} in {found.size.files:,} files."
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _facts(found: Inventory) -> Iterator[tuple[str, str]]:
    yield human(found.size.bytes), f"in {found.size.files:,} files"
    yield human(shutil.disk_usage(found.root).free), "free on this disk"
    yield human(sum(run.prunable for run in found.runs)), "that make prune would list"
    now = datetime.now()
    yield f"{now:%H:%M}", f"on {now:%Y-%m-%d}, when this was so"


def _sections(found: Inventory) -> Iterator[Section]:
    yield _runs(found)
    yield _items("Models", found.models, found.root)
    yield _items("Data", found.data, found.root)
    if found.rest:
        rows = [[name, f"{size.files:,}", human(size.bytes)] for name, size in found.rest.items()]
        yield Section("Other folders", header=["folder", "files", "disk"], rows=rows)


def _runs(found: Inventory) -> Section:
    if not found.runs:
        return Section("Runs", f"There is none yet: {MADE['Runs']}")
    rows = [
        [
            _name(run, found.root),
            run.state,
            "–" if run.accuracy is None else f"{100 * run.accuracy:.1f} %",
            human(run.size.bytes),
            human(run.prunable) if run.prunable else "–",
            run.told,
            Command(run.next),
        ]
        for run in found.runs
    ]
    header = ["run", "state", "pass@1", "disk", "may go", "how it is", "type next"]
    note = (
        "A run's name leads to its page, which make report with its MODEL makes."
        " May go: what make prune would list."
    )
    return Section("Runs", note, header, rows, stacks=True)


def _items(title: str, items: Sequence[Item], root: Path) -> Section:
    if not items:
        return Section(title, f"There is none yet: {MADE[title]}")
    rows: list[list[Cell]] = [
        [_name(i, root), i.state, human(i.size.bytes), i.told, Command(i.next)] for i in items
    ]
    return Section(title, "", ["name", "state", "disk", "how it is", "type next"], rows, stacks=True)


def _name(item: Item, root: Path) -> Cell:
    return Link(item.name, quote(os.path.relpath(item.page, root))) if item.page else item.name
