"""The run's event log, story.txt: what happened to its jobs, a line each, for people; read back as events."""

import contextlib
import re
from dataclasses import dataclass
from datetime import datetime

from omr.workspace import RunFolder

LINE = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) "
    r"(?:link (?P<link>.+?), job (?P<job>\w+)(?:, start (?P<start>\d+))?: )?(?P<text>.*)"
)
# What the lines of those who write here are about; the first that is found in a line counts.
KINDS = {
    "anew": r"^training begins anew",
    "refused": r"^refused: ",
    "stopped": r"the rest of the chain is cancelled",
    "killed": r"ended without recording a result",
    "started": r"trains from the start|trains on from step (\d+)",
    "deadline": r"^the allocation ends in .*: saves and stops",
    "asked": r": saves and stops$",
    "hung": r": the engine is ended$",
    "complete": r"the training is complete(?: at step (\d+))?",
    "saved": r"^saved step (\d+) of",
    "failed": r"^left no new checkpoint",
    "damaged": r"^step_(\d+) is damaged|^step_(\d+) has to be trained again",
    "nodes": r"^the next links do without",
    "cancelled": r"^cancelled by make cancel",
    "submitted": r"^chain \S+ submitted",
}
ANEW = "training begins anew: what was there is removed"  # FORCE=1; what came before is of another training


@dataclass(frozen=True)
class Event:
    """A line of the log."""

    time: float  # seconds since the epoch; the log has whole ones, in local time
    text: str
    kind: str = ""  # of KINDS; empty for any other line
    step: int | None = None  # that the line names
    link: str = ""  # `2 of 4`; empty where no link of a chain wrote it
    job: str = ""  # Slurm's id
    start: int = 1  # of the job: Slurm may start it again


def log_event(folder: RunFolder, line: str) -> None:
    """Append a line to the run's event log; on a full disk the job's own log has to do."""
    with contextlib.suppress(OSError), folder.event_log.open("a") as handle:
        handle.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}\n")


def log_start(folder: RunFolder, step: int) -> None:
    """A training outside of a chain begins, after `step` steps that are saved."""
    log_event(
        folder, f"{f'trains on from step {step}' if step else 'trains from the start'}, on this machine"
    )


def log_end(folder: RunFolder, step: int, steps: int) -> None:
    """A training outside of a chain has saved `step` of its steps and ends."""
    log_event(
        folder,
        f"the training is complete at step {step}" if step >= steps else f"saved step {step} of {steps}",
    )


def read(folder: RunFolder) -> list[Event]:
    """The events of this training, in order; a line that is none, such as a torn one, is left out."""
    path = folder.event_log
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    found: list[Event] = []
    for line in lines:
        if event := _parse(line):
            if event.kind == "anew":
                found.clear()
            else:
                found.append(event)
    return found


def _parse(line: str) -> Event | None:
    match = LINE.fullmatch(line)
    if match is None:
        return None
    try:
        time = datetime.fromisoformat(match["time"]).timestamp()
    except ValueError:
        return None
    text = match["text"]
    named = {"link": match["link"] or "", "job": match["job"] or "", "start": int(match["start"] or 1)}
    for kind, pattern in KINDS.items():
        if about := re.search(pattern, text):
            step = next((int(group) for group in about.groups() if group), None)
            return Event(time, text, kind, step, **named)
    return Event(time, text, **named)
