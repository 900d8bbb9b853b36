"""How a run's training went on from start to start, and what befell it, read from its event log and its metrics."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from omr.run.events import Event


class Kind(NamedTuple):
    """How the page calls and draws what befell a training."""

    words: str
    shape: str  # a symbol of page.html.j2
    style: str  # a colour of page.css
    rule: str = ""  # the class of a line through all panels; none for what is no fault


KINDS = {
    "resumed": Kind("resumed", "play", "s3"),
    "deadline": Kind("saved before its time was up", "down", "s1", "asked"),
    "asked": Kind("saved because Slurm ended it", "funnel", "s1", "asked"),
    "requeued": Kind("requeued by Slurm", "triangle", "s4", "fault"),
    "killed": Kind("killed", "cross", "s2", "fault"),
    "failed": Kind("left no new checkpoint", "square", "s2", "fault"),
    "hung": Kind("hung, and was ended", "box", "s2", "fault"),
    "refused": Kind("refused to train", "lozenge", "s2", "fault"),
    "stopped": Kind("chain stopped", "diamond", "s2", "fault"),
    "damaged": Kind("a checkpoint was damaged", "ring", "s2", "fault"),
    "nodes": Kind("went on without broken nodes", "dot", "s5"),
    "cancelled": Kind("cancelled by make cancel", "plus", "s5", "fault"),
}


@dataclass(frozen=True)
class Stretch:
    """One start of a link, or of a training on one machine, that came to train. Times: seconds since the epoch."""

    event: Event  # of its start
    start: int  # the step that it trained on from
    reached: int | None = None  # the step that counts when the next one began; None: it trains still
    ended: float | None = None

    @property
    def name(self) -> str:
        """Which one it is."""
        event = self.event
        again = f", start {event.start}" if event.start > 1 else ""
        return f"link {event.link}, job {event.job}{again}" if event.job else "on this machine"


@dataclass(frozen=True)
class Happening:
    """Something that befell the training."""

    kind: str  # of KINDS
    step: int  # whose checkpoint counts afterwards
    event: Event

    @property
    def who(self) -> str:
        """The link that the log names."""
        return Stretch(self.event, 0).name if self.event.job else ""


@dataclass(frozen=True)
class Story:
    """All starts and happenings of a training, in order."""

    stretches: Sequence[Stretch] = ()
    happenings: Sequence[Happening] = ()

    @property
    def jobs(self) -> int:
        """Slurm jobs that came to train."""
        return len({stretch.event.job for stretch in self.stretches if stretch.event.job})

    @property
    def seconds(self) -> float:
        """Time spent in starts that have ended."""
        return sum(s.ended - s.event.time for s in self.stretches if s.ended is not None)


def story(events: Sequence[Event], rows: Sequence[dict]) -> Story:
    """What an event log tells; `rows` are the run's metrics, whose times say how far an unfinished start came."""
    stretches: list[Stretch] = []
    happenings: list[Happening] = []

    def close(reached: int | None, ended: float | None) -> None:
        stretches[-1] = replace(stretches[-1], reached=reached, ended=ended)

    for event in events:
        # A start that wrote down no end is open: a kill, or it trains still.
        running = stretches[-1] if stretches and stretches[-1].ended is None else None
        at = stretches[-1].reached or stretches[-1].start if stretches else 0
        if event.kind == "started":
            start = event.step or 0
            if running:
                died = _last_sign(rows, running.event.time, event.time)
                close(start, died)
                happenings.append(Happening("killed", start, replace(running.event, time=died)))
            if event.start > 1:
                happenings.append(Happening("requeued", start, event))
            if start:
                happenings.append(Happening("resumed", start, event))
            stretches.append(Stretch(event, start))
        elif event.kind in ("saved", "complete") and running and event.step is not None:
            # What it was asked for is drawn at the step that it saved.
            happenings = [
                replace(h, step=event.step) if h.event.time >= running.event.time and _asked(h) else h
                for h in happenings
            ]
            close(event.step, event.time)
        elif event.kind == "failed" and running:
            close(running.start, event.time)
            happenings.append(Happening("failed", running.start, event))
        elif event.kind in KINDS and event.kind != "killed":
            happenings.append(Happening(event.kind, at, event))
    return Story(stretches, happenings)


def _asked(happening: Happening) -> bool:
    return happening.kind in ("deadline", "asked")


def _last_sign(rows: Sequence[dict], began: float, before: float) -> float:
    """When the metrics last tell of a training that began and was killed before another did."""
    return max((row["time"] for row in rows if began <= row.get("time", 0) < before), default=before)
