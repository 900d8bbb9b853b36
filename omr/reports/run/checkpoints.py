"""Which checkpoints of a run stand, were averaged, were set aside or are gone: by name, nothing is hashed."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from omr import manifest
from omr.reports.pages import Section
from omr.run import checkpoints
from omr.run.events import Event
from omr.run.frozen import FrozenRun
from omr.workspace import RunFolder

State = Literal["averaged", "stands", "aside", "gone", "to come"]
Why = Literal["by the schedule", "time was up", "RECOVERY, or time was up"]  # no event tells of RECOVERY's


@dataclass(frozen=True)
class Standing:
    """A step that was or will be saved."""

    step: int
    state: State
    why: Why
    final: bool  # part of final/, or to be
    places: tuple[str, ...] = ()  # where it is: `checkpoints/`, `hf/`, `checkpoints/damaged_…`

    @property
    def words(self) -> str:
        """How it is, for people."""
        there = " and ".join(self.places)
        return {
            "averaged": f"averaged; {f'stands in {there}' if there else 'removed since'}",
            "stands": f"stands in {there}",
            "aside": f"set aside: {there}",
            "gone": "removed",
            "to come": "to come",
        }[self.state]


def standings(folder: RunFolder, began: FrozenRun, events: Sequence[Event], reached: int) -> list[Standing]:
    """Every step that the schedule, the event log or the disk knows of; `reached` is the newest step."""
    schedule = began.run.schedule
    planned = {*range(schedule.save_period, schedule.steps + 1, schedule.save_period), schedule.steps}
    averaged = {
        int(step) for step in ((manifest.read(folder.final) or {}).get("inputs", {}).get("steps", {}))
    }
    told = {event.step for event in events if event.kind in ("saved", "complete") and event.step}
    whole, aside = _there(folder)

    def state(step: int) -> State:
        if step in averaged:
            return "averaged"
        if step in whole:
            return "stands"
        if step in aside:
            return "aside"
        return "to come" if step > reached else "gone"

    def why(step: int) -> Why:
        if step in planned:
            return "by the schedule"
        return "time was up" if step in told else "RECOVERY, or time was up"

    return [
        Standing(
            step,
            state(step),
            why(step),
            step in (averaged or schedule.averaged),
            tuple([*whole.get(step, ()), *aside.get(step, ())]),
        )
        for step in sorted({*planned, *schedule.averaged, *averaged, *told, *whole, *aside})
    ]


def _there(folder: RunFolder) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """Step -> names of what has a final name, and of what is set aside or half written."""
    whole: dict[int, list[str]] = {}
    aside: dict[int, list[str]] = {}
    for parent in (folder.checkpoints, folder.hf):
        for step in checkpoints.steps(parent):
            whole.setdefault(step, []).append(f"{parent.name}/")
        for path in parent.glob("*_step_*"):
            number = path.name.rpartition("_")[2]
            if number.isdecimal() and not path.name.startswith("."):
                aside.setdefault(int(number), []).append(f"{parent.name}/{path.name}")
    return whole, aside


def section(found: Sequence[Standing]) -> Section:
    """The checkpoints as a table, neighbours that are alike in one line; of removed saves their number."""
    shown = [one for one in found if one.state != "gone" or one.final]
    rows = []
    for (why, words, final), alike in groupby(shown, key=lambda one: (one.why, one.words, one.final)):
        steps = [f"{one.step:,}" for one in alike]
        named = ", ".join(steps) if len(steps) < 5 else f"{steps[0]}, {steps[1]}, … {steps[-1]}"
        rows.append([named, str(len(steps)), why, words, "yes" if final else "no"])
    gone = len(found) - len(shown)
    note = f"Removed as newer ones stood: {gone:,} more." if gone else ""
    return Section(
        "Checkpoints", note, ["steps", "saves", "saved", "how they are", "in final/"], rows, stacks=True
    )
