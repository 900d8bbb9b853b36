"""The keyboard of a terminal, a key at a time; nothing where there is none."""

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterator

LEAVE = b"qQ\x04"  # q, and the end of the input


@contextlib.contextmanager
def single() -> Iterator[None]:
    """Keys come without Enter and are not echoed; the terminal is as it was afterwards, however this ends."""
    if not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    ended = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTERM, ended)


def leave_within(seconds: float) -> bool:
    """Whether somebody types q in this time; without a terminal it only passes."""
    end = time.monotonic() + seconds
    while sys.stdin.isatty() and (left := end - time.monotonic()) > 0:
        ready, _, _ = select.select([sys.stdin], [], [], left)
        if ready:
            typed = os.read(sys.stdin.fileno(), 1)
            if not typed or typed in LEAVE:
                return True
    time.sleep(max(0.0, end - time.monotonic()))
    return False
