"""How far a long stage is: a bar in a terminal, a line every half minute in a log."""

import sys
import time
from typing import TYPE_CHECKING

from omr.files import human

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

IN_A_TERMINAL, IN_A_LOG = 0.5, 30.0  # seconds between two drawings


class Progress:
    """Counts units of work (bytes, or `unit`) towards a total; shows rate and time left on stderr."""

    def __init__(self, what: str, total: float, unit: str = "B") -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = self.first = 0.0
        self.started = self.shown = time.monotonic()
        self.every = IN_A_TERMINAL if sys.stderr.isatty() else IN_A_LOG
        self.bar: Bar | None = None

    def start(self, done: float) -> None:
        """What an earlier run did already: part of the share, not of the rate."""
        self.done = self.first = done

    def add(self, amount: float) -> None:
        """`amount` more is done."""
        self.set(self.done + amount)

    def set(self, done: float) -> None:
        """Now this much is done; draws when it is time to."""
        self.done = done
        now = time.monotonic()
        if now - self.shown >= self.every:
            self.shown = now
            self._draw(now)

    def close(self) -> None:
        """End the bar, if one was drawn."""
        if self.bar:
            self._draw(time.monotonic())
            self.bar.stop()

    def _draw(self, now: float) -> None:
        if self.every == IN_A_LOG:
            share = 100 * self.done / self.total if self.total else 100
            print(f"{self.what}: {share:.0f}%, {self._amounts(now)}", file=sys.stderr, flush=True)
            return
        self.bar = self.bar or _bar(self.what, self.total)
        self.bar.update(
            self.bar.task_ids[0], description=self.what, completed=self.done, amounts=self._amounts(now)
        )
        self.bar.refresh()

    def _amounts(self, now: float) -> str:
        """`1.0 GB of 4.0 GB, 0.1 GB/s, 0:30 left`, the rate over all that this run did."""
        rate = (self.done - self.first) / max(now - self.started, 1e-3)
        left = (self.total - self.done) / rate if rate else 0
        done, total = self._amount(self.done), self._amount(self.total)
        return f"{done} of {total}, {self._amount(rate)}/s, {_clock(left)} left"

    def _amount(self, value: float) -> str:
        return human(value) if self.unit == "B" else f"{value:,.0f} {self.unit}"


def _bar(what: str, total: float) -> "Bar":
    """A bar on stderr, redrawn only when asked to: a drawing thread would not survive a fork."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(20),
        TaskProgressColumn(),
        TextColumn("{task.fields[amounts]}"),
    )
    bar = Progress(*columns, console=Console(stderr=True), auto_refresh=False)
    bar.add_task(what, total=total or 1, amounts="")
    bar.start()
    return bar


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
