"""The passports of a run's models side by side, as each was recorded when its folder was made.

Nothing is read again, so that they are there when the folders are gone: `make passport` looks at the folders.
"""

from omr import manifest
from omr.models.passport import Entries
from omr.reports import journey
from omr.reports.pages import Section
from omr.run import checkpoints
from omr.run.frozen import FrozenRun
from omr.workspace import RunFolder


def section(folder: RunFolder, began: FrozenRun, words: str) -> Section:
    """The table; `words` name the run on a command line."""
    stations = recorded(folder, began)
    if not stations:
        return Section("Passports", f"None was recorded yet: make model and make train {words}.")
    text = (
        "What decides how a model is loaded and asked, at each station; = is as in the column before it."
        f" Recorded when each was made; make passport {words} reads the folders anew."
    )
    return Section("Passports", text, ["", *stations], journey.grid(stations))


def recorded(folder: RunFolder, began: FrozenRun) -> dict[str, Entries]:
    """Station -> its entries; converted steps that are alike are one column."""
    base = (manifest.read(began.base.path) or {}).get("passport", {})
    found = dict(base)
    if "final" in base:  # round 2 starts from round 1's
        found = {"round 1": base["final"]}
    alike: list[tuple[list[int], Entries]] = []
    for step in checkpoints.steps(folder.hf):
        entries = (manifest.read(folder.hf_step(step)) or {}).get("passport")
        if entries and alike and alike[-1][1] == entries:
            alike[-1][0].append(step)
        elif entries:
            alike.append(([step], entries))
    for steps, entries in alike:
        found[f"step {steps[0]:,}" + (f" to {steps[-1]:,}" if len(steps) > 1 else "")] = entries
    return {**found, **(manifest.read(folder.final) or {}).get("passport", {})}
