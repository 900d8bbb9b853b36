"""One start of one job of a chain, and what the starts know of each other.

What happened is one line each in <run>/story.txt, for people; what the next link must know is in
<run>/links.json.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from omr import recipe
from omr.files import read_json, write_json
from omr.request import TrainRequest
from omr.workspace import RunFolder, Workspace


@dataclass
class Probe:
    """How an engine's checkpoints are looked at (steps are optimiser steps)."""

    whole: Callable[[Path], list[int]]
    mend: Callable[[Path], list[str]]
    tidies: bool  # the engine itself removes the saves that it no longer needs


@dataclass
class Attempt:
    """This start of this job."""

    request: TrainRequest
    folder: RunFolder
    workspace: Workspace
    job: str
    restart: int
    link: str  # `2 of 4`
    probe: Probe
    margin: int | None = None  # seconds; None: learned
    stopped: list[str] = field(default_factory=list)  # why it was asked to stop

    @property
    def run(self) -> recipe.Run:
        """The run that it trains."""
        return self.request.run

    @property
    def who(self) -> str:
        """How the story names it."""
        return f"link {self.link}, job {self.job}" + (f", start {self.restart + 1}" if self.restart else "")

    def say(self, line: str) -> None:
        """Into the story and this job's own log."""
        print(line, flush=True)
        tell(self.folder, f"{self.who}: {line}")


def tell(folder: RunFolder, line: str) -> None:
    """Append a line to the run's story; on a full disk the job's own log has to do."""
    with contextlib.suppress(OSError), folder.story.open("a") as handle:
        handle.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}\n")


def complete(run: recipe.Run, folder: RunFolder, whole: Iterable[int]) -> bool:
    """Is the training done: the last step and every averaged one are there, whole, or the end result is?"""
    if (folder.final / "manifest.json").exists():
        return True
    there = {n for n in run.schedule.averaged if (folder.hf_step(n) / "manifest.json").exists()}
    return {*run.schedule.averaged, run.schedule.steps} <= {*whole, *there}


def lost(run: recipe.Run, folder: RunFolder, whole: Sequence[int]) -> list[int]:
    """Averaged steps that the training is past and that are neither whole nor converted."""
    newest = max(whole, default=0)
    gone = [n for n in run.schedule.averaged if n <= newest and n not in whole]
    return [n for n in gone if not (folder.hf_step(n) / "manifest.json").exists()]


def read(folder: RunFolder) -> dict:
    """What links know of each other: `chain`, `attempts`, `data`, `save_seconds`."""
    return read_json(folder.links_json) if folder.links_json.exists() else {}


def note(folder: RunFolder, **facts: object) -> dict:
    """Change some of it, atomically."""
    known = {**read(folder), **facts}
    write_json(folder.links_json, known)
    return known


def fruitless(attempts: Sequence[dict], now: int) -> list[dict]:
    """The last attempts in a row that left no new checkpoint; `now` is the newest whole step.

    An attempt that was killed could not write its `to`; then what the next one began from tells.
    """
    found, later = [], now
    for attempt in reversed(attempts):
        if attempt.get("to", later) > attempt["from"]:
            break
        found, later = [attempt, *found], attempt["from"]
    return found


LINKS, STARTS = 2, 6  # in a row without a new checkpoint: the chain is stopped


def burning(attempts: Sequence[dict], now: int, starts_now: str | None = None) -> str | None:
    """Why the chain should be stopped, in a few words; None while it may go on.

    A requeued job (a lost node, a preemption) starts more than once and is one link; that Slurm has to start
    the job `starts_now` again is not yet its failure.
    """
    last = fruitless(attempts, now)
    links = {attempt["job"] for attempt in last} - {starts_now}
    if len(links) >= LINKS:
        return f"{len(links)} links in a row left no new checkpoint"
    return f"{len(last)} starts in a row left no new checkpoint" if len(last) >= STARTS else None


def chain(folder: RunFolder) -> str | None:
    """Which submission the run's jobs are of now."""
    return read_json(folder.jobs_json).get("chain") if folder.jobs_json.exists() else None


def jobs(folder: RunFolder) -> list[dict]:
    """The jobs of that submission, each with `key` and `id`."""
    return read_json(folder.jobs_json).get("jobs", []) if folder.jobs_json.exists() else []


def attempts(folder: RunFolder) -> list[dict]:
    """The starts of this submission's links so far; those of an earlier one do not count against it."""
    known = read(folder)
    return known.get("attempts", []) if known.get("chain") == chain(folder) else []


def tidy(run: recipe.Run, folder: RunFolder, whole: Sequence[int]) -> None:
    """Remove deadline checkpoints that are no longer needed: neither averaged, nor of the newest two."""
    keep = {*run.schedule.averaged, *sorted(whole)[-2:]}
    for step in whole:
        if step not in keep and step % run.schedule.save_period:
            # Out of its name first: half removed it would pass for a damaged one.
            aside = folder.checkpoints / f".gone_step_{step}"
            folder.checkpoint(step).rename(aside)
    for aside in folder.checkpoints.glob(".gone_step_*"):
        shutil.rmtree(aside, ignore_errors=True)


def probe(engine: str) -> Probe:
    """How this engine's checkpoints are looked at."""
    if engine == "nemo-rl":
        from omr.run import sealed

        return Probe(sealed.whole, sealed.mend, tidies=False)
    from omr.run import checkpoints

    return Probe(checkpoints.whole, checkpoints.mend, tidies=True)
