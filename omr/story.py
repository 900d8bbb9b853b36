"""One start of one job of a chain, and what the starts know of each other.

What happened is one line each in <run>/story.txt, for people; what the next link must know is in
<run>/links.json.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from omr import recipe
from omr.files import read_json, write_json
from omr.workspace import RunFolder, Workspace


@dataclass
class Probe:
    """How an engine's checkpoints are looked at (steps are optimiser steps)."""

    whole: Callable[[Path], list[int]]
    mend: Callable[[Path], list[str]]


@dataclass
class Attempt:
    """This start of this job."""

    run: recipe.Run
    folder: RunFolder
    workspace: Workspace
    job: str
    restart: int
    link: str  # `2 of 4`
    probe: Probe
    margin: int | None = None  # seconds; None: learned
    stopped: list[str] = field(default_factory=list)  # why it was asked to stop

    @property
    def who(self) -> str:
        """How the story names it."""
        return f"link {self.link}, job {self.job}" + (f", start {self.restart + 1}" if self.restart else "")

    def say(self, line: str) -> None:
        """Into the story and this job's own log."""
        print(line, flush=True)
        tell(self.folder, f"{self.who}: {line}")


def tell(folder: RunFolder, line: str) -> None:
    """Append a line to the run's story."""
    with folder.story.open("a") as handle:
        handle.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}\n")


def complete(run: recipe.Run, folder: RunFolder, whole: Iterable[int]) -> bool:
    """Is the training done: the last step and every averaged one are there, whole, or the end result is?"""
    if (folder.final / "manifest.json").exists():
        return True
    there = {n for n in run.schedule.averaged if (folder.hf_step(n) / "manifest.json").exists()}
    return {*run.schedule.averaged, run.schedule.steps} <= {*whole, *there}


def read(folder: RunFolder) -> dict:
    """What links know of each other: `chain`, `attempts`, `data`, `save_seconds`."""
    return read_json(folder.links_json) if folder.links_json.exists() else {}


def note(folder: RunFolder, **facts: object) -> dict:
    """Change some of it, atomically."""
    known = {**read(folder), **facts}
    write_json(folder.links_json, known)
    return known


def fruitless(attempts: Sequence[dict], now: int) -> int:
    """How many of the last attempts in a row left no new checkpoint; `now` is the newest whole step.

    An attempt that was killed could not write its `to`; then what the next one began from tells.
    """
    count, later = 0, now
    for attempt in reversed(attempts):
        if attempt.get("to", later) > attempt["from"]:
            break
        count, later = count + 1, attempt["from"]
    return count


def chain(folder: RunFolder) -> str | None:
    return read_json(folder.jobs_json).get("chain") if folder.jobs_json.exists() else None


def _samechain(folder: RunFolder, known: dict) -> bool:
    return known.get("chain") == chain(folder)


def probe(engine: str) -> Probe:
    """How this engine's checkpoints are looked at."""
    if engine == "nemo-rl":
        from omr import sealed

        return Probe(sealed.whole, sealed.mend)
    from omr import checkpoints

    return Probe(checkpoints.whole, checkpoints.mend)
