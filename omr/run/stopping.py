"""Asking an engine to save and stop: signals to us become a file that it looks for (OMR_STOP)."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from omr.workspace import RunFolder

SIGNALS = (signal.SIGTERM, signal.SIGUSR2)


@contextmanager
def by_file(folder: RunFolder) -> Iterator[dict[str, str]]:
    """An environment for an engine of several processes, which our own SIGTERM and SIGUSR2 stop."""
    path = folder.root / f".stop-{os.getpid()}"
    before = {number: signal.signal(number, lambda *_: path.touch()) for number in SIGNALS}
    try:
        yield {**os.environ, "OMR_STOP": str(path)}
    finally:
        path.unlink(missing_ok=True)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def by_flag() -> Iterator[list[str]]:
    """Names of the signals that asked this very process to save and stop."""
    asked: list[str] = []
    before = {n: signal.signal(n, lambda n, _: asked.append(signal.Signals(n).name)) for n in SIGNALS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
