"""The process in which answers are graded (pool.py starts it): a JSON line in, two out.

`[expected, given]` comes in; the published outcome goes out, then the strict one. The limits of an outcome
are the kernel's own, so that they hold whatever a library does meanwhile: its timers end this process.
"""

import contextlib
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from omr.evaluation.grading import rules
from omr.evaluation.grading.rules import Outcome
from omr.processes import end_with

START_SECONDS = 300  # for the imports, which a cold file system makes slow


def main(parent: int, cpu_seconds: float, wall_seconds: float, megabytes: int) -> None:
    """Answer on stdout what comes on stdin, until it ends; `parent` is the process to end with."""
    _take_signals()
    end_with(parent)
    _set_timers(START_SECONDS, START_SECONDS)
    outcomes = _own_stdout()
    logging.disable()
    import math_verify
    import sympy

    del math_verify  # loaded before the first answer's clock begins
    memory = Memory.limited(megabytes)
    _set_timers(0, 0)
    print("ready", file=outcomes, flush=True)
    for line in sys.stdin:
        expected, given = json.loads(line)
        for judge in (rules.published, rules.strict):
            sympy.core.random.seed(0)  # of the numbers that it tries in place of symbols
            _set_timers(cpu_seconds, wall_seconds)
            print(outcome(judge, expected, given, memory), file=outcomes, flush=True)
        _set_timers(0, 0)
        if memory.used() > 0.5:
            return  # the next answer is another process's, with all of its memory


def outcome(judge: Callable[[str, str], bool], expected: str, given: str, memory: "Memory") -> Outcome:
    """What `judge` comes to; a lack of memory is a TIMEOUT, anything else that is raised WRONG."""
    try:
        if judge(expected, given):
            return Outcome.RIGHT
    except MemoryError:
        return Outcome.TIMEOUT
    except Exception:  # a model may write anything, and what no library can read is no right answer
        return Outcome.WRONG
    # The libraries take a lack of memory for a difference.
    return Outcome.TIMEOUT if memory.used() > 0.9 else Outcome.WRONG


def _set_timers(cpu_seconds: float, wall_seconds: float) -> None:
    """End this process after so much work, or so much time for what waits without working; 0: never.

    Work is CPU time, so that a busy machine changes no verdict.
    """
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    signal.setitimer(signal.ITIMER_REAL, wall_seconds)


def _take_signals() -> None:
    """A limit's signal ends this process, whatever the parent does with it; interrupts are the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for limit in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(limit, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGPROF, signal.SIGALRM))


def _own_stdout() -> TextIO:
    """Stdout for the outcomes alone: what a library prints goes nowhere."""
    own = os.fdopen(os.dup(1), "w", encoding="ascii")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return own


class Memory:
    """The limit of this process's address space: what it has already, and so many bytes more."""

    def __init__(self, base: int, size: int) -> None:
        self._base, self._size = base, size

    @classmethod
    def limited(cls, megabytes: int) -> "Memory":
        """Set the limit; where the kernel does not tell how much there is already, there is none."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        memory = cls(_most_memory(), megabytes * 1_000_000)
        if memory._base:
            limit = memory._base + memory._size
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        return memory

    def used(self) -> float:
        """The most that was ever taken of it, as a share."""
        return (_most_memory() - self._base) / self._size


def _most_memory() -> int:
    """The largest address space that this process has had, in bytes; 0 where only Linux would tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmPeak:"):
                return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
