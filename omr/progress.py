"""One line that tells how far a long stage is: redrawn in a terminal, every half minute in a log."""

import sys
import time

from omr.files import human


class Progress:
    """Counts units of work (bytes, or `unit`) towards a total; shows rate and time left."""

    def __init__(self, what: str, total: float, unit: str = "B") -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = 0.0
        self.started = self.shown = time.monotonic()
        self.first = 0.0
        self.terminal = sys.stderr.isatty()

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
        if now - self.shown >= (0.5 if self.terminal else 30):
            self.shown = now
            self._draw(now)

    def close(self) -> None:
        """End the line, if one was drawn."""
        if self.terminal and self.shown > self.started:
            self._draw(time.monotonic())
            sys.stderr.write("\n")

    def _draw(self, now: float) -> None:
        rate = (self.done - self.first) / max(now - self.started, 1e-3)
        share = 100 * self.done / self.total if self.total else 100
        left = (self.total - self.done) / rate if rate else 0
        text = f"{self.what}: {share:.0f}%, {self._amount(self.done)} of {self._amount(self.total)}"
        text += f", {self._amount(rate)}/s, {_clock(left)} left"
        sys.stderr.write(f"\r\033[K{text}" if self.terminal else f"{text}\n")
        sys.stderr.flush()

    def _amount(self, value: float) -> str:
        return human(value) if self.unit == "B" else f"{value:,.0f} {self.unit}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
