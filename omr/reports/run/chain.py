"""How a run's training went on from start to start, and what befell it: its event log and metrics, read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from omr.run.events import Event


class Kind(NamedTuple):
    """How the page calls and draws what befell a training."""

    label: str  # beside its row
    words: str
    shape: str  # a symbol of page.html.j2
    style: str  # a colour of page.css
    fault: bool = False  # a line through all panels, where they are few


KINDS = {
    "resumed": Kind("resumed", "resumed from a checkpoint", "play", "s3"),
    "deadline": Kind("time up", "saved before its time was up", "down", "s1"),
    "asked": Kind("ended", "saved because Slurm ended it", "funnel", "s1"),
    "requeued": Kind("requeued", "requeued by Slurm", "triangle", "s4"),
    "nodes": Kind("nodes", "went on without broken nodes", "dot", "s5"),
    "killed": Kind("killed", "killed", "cross", "s2", True),
    "failed": Kind("failed", "left no new checkpoint", "square", "s2", True),
    "hung": Kind("hung", "hung, and was ended", "box", "s2", True),
    "refused": Kind("refused", "refused to train", "lozenge", "s2", True),
    "stopped": Kind("stopped", "chain stopped", "diamond", "s2", True),
    "damaged": Kind("damaged", "a checkpoint was damaged", "ring", "s2", True),
    "cancelled": Kind("cancelled", "cancelled by make cancel", "plus", "s5", True),
}


@dataclass(frozen=True)
class Stretch:
    """A start of a link, or of a training on one machine, that came to train."""

    event: Event  # of its start
    start: int  # the step that it trained on from
    reached: int | None = None  # the step that counts when the next one began; None: it trains still
    ended: float | None = None  # seconds since the epoch

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
        """The link that the log names; empty for what came from outside."""
        return "" if self.kind == "cancelled" else Stretch(self.event, 0).name


@dataclass(frozen=True)
class Story:
    """All starts and happenings of a training, in order."""

    stretches: Sequence[Stretch] = ()
    happenings: Sequence[Happening] = ()

    @property
    def jobs(self) -> int:
        """Slurm jobs that came to train."""
        return len({stretch.event.job for stretch in self.stretches if stretch.event.job})


def story(events: Sequence[Event], rows: Sequence[dict]) -> Story:
    """What an event log tells; the times in `rows`, the run's metrics, say how far a killed start came."""
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
