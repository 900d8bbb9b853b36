"""The passports of all stations of a run side by side: base, patched, converted steps, average, final."""

from collections.abc import Mapping
from pathlib import Path

from omr import manifest
from omr.models import passport
from omr.models.final import finish
from omr.models.passport import CONFIG, ENTRIES, Entries, Fault, Stage, Station, Value
from omr.recipe import Run
from omr.run import frozen
from omr.workspace import Workspace


def stations_of(run: Run, workspace: Workspace) -> tuple[dict[str, Entries], list[Fault]]:
    """Every station of a run that is there: name -> entries, and everything wrong with any of them.

    base -> patched (for round 2: round 1's average and final) -> step_<n> -> average -> final.
    """
    folder, model = workspace.run(run), run.model
    found: list[Fault] = []
    stations: dict[str, Entries] = {}

    def visit(name: str, path: Path, stage: Stage, before: Station | None) -> Station | None:
        """Add a folder's entries and faults, if it is there."""
        if not (path / CONFIG).exists():
            return None
        if before:
            stations.setdefault(before.name, before.entries)
        stations[name], wrong = passport.faults(path, model, stage, before)
        found.extend(wrong)
        return Station(name, stations[name])

    base = frozen.base_of(run, workspace)
    if run.round.number == 1:
        start = visit("patched", base, "patched", _recorded(base, "published", "base"))
    else:
        start = visit("round 1", base, "final", _recorded(base, "average", "its average"))
    for step in run.schedule.averaged:
        visit(f"step_{step}", folder.hf_step(step), "step", start)
    visit("final", folder.final, "final", _recorded(folder.final, "average", "average"))
    return stations, found


def departures(run: Run, workspace: Workspace) -> list[str]:
    """What the run's final model is, or will be, used with other than it was trained with, as published."""
    folder = workspace.run(run)
    began = frozen.read(folder)
    return finish.departures(run, began.engine if began else run.model.engine, folder)


def _recorded(folder: Path, key: str, name: str) -> Station | None:
    """A station that has no folder any more, from the manifest of the one that it became."""
    passports = (manifest.read(folder) or {}).get("passport", {})
    return Station(name, passports[key]) if key in passports else None


def grid(stations: Mapping[str, Entries]) -> list[list[str]]:
    """The stations side by side, a row for each entry; `=` where it is as in the column before."""
    rows = []
    for entry in ENTRIES:
        cells = [_cell(facts.get(entry)) for facts in stations.values()]
        if set(cells) != {"-"}:
            same = [n > 0 and cell == cells[n - 1] for n, cell in enumerate(cells)]
            rows.append([entry, *("=" if s else cell for s, cell in zip(same, cells, strict=True))])
    return rows


def table(stations: Mapping[str, Entries]) -> list[str]:
    """The same as lines of plain text, under the stations' names."""
    rows = [["", *stations], *grid(stations)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _cell(value: Value) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
