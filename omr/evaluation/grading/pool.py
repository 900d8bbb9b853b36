"""Grading in processes of their own: answers go in as they come, verdicts come out, limits hold.

A process that a limit ended, or that died, is replaced; nothing of it reaches the terminal.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

from omr import settings
from omr.errors import OmrError
from omr.evaluation.grading.rules import Outcome, Verdict
from omr.processes import cores

ENDED_BY_A_LIMIT = (-signal.SIGPROF, -signal.SIGALRM)


@dataclass(frozen=True)
class Limits:
    """What an outcome may cost; an answer has two, the published and the strict."""

    cpu_seconds: float = 10.0  # as long as the published grader lets a comparison take
    wall_seconds: float = 120.0  # for what waits instead of working
    megabytes: int = 2_000  # beyond what the libraries take


class Grader:
    """Grades answers in up to `processes` processes, started as they are needed; a context manager.

    `submit` returns at once with a Future, in threads and (by asyncio.wrap_future) in coroutines alike. An
    answer that was graded before is not graded again.
    """

    def __init__(self, processes: int | None = None, limits: Limits = Limits()) -> None:
        self._threads = ThreadPoolExecutor(processes or min(cores(), 16), "grader")
        self._limits = limits
        self._mine = threading.local()  # each thread has one process
        self._lock = threading.Lock()
        self._processes: set[_Process] = set()
        self._verdicts: dict[tuple[str, str], Future[Verdict]] = {}
        self._closed = False

    def submit(self, given: str | None, expected: str) -> "Future[Verdict]":
        """The verdict on what stands in an answer's box (None: nothing does), when it is there.

        The Future raises OmrError where none can be.
        """
        if given is None:
            return _done(Verdict(Outcome.WRONG, Outcome.WRONG))
        if given == expected:  # by both rules
            return _done(Verdict(Outcome.RIGHT, Outcome.RIGHT))
        pair = (expected, given)
        with self._lock:
            if pair not in self._verdicts:
                self._verdicts[pair] = self._threads.submit(self._grade, *pair)
            return self._verdicts[pair]

    def grade(self, answers: Iterable[tuple[str | None, str]]) -> list[Verdict]:
        """The verdicts on pairs of what is given and what is expected, in their order."""
        return [verdict.result() for verdict in [self.submit(*pair) for pair in answers]]

    def close(self) -> None:
        """End the processes at once; what is not graded yet is cancelled."""
        with self._lock:
            self._closed = True
            for process in self._processes:
                process.kill()
        self._threads.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _grade(self, expected: str, given: str) -> Verdict:
        for last_try in (False, True):
            process = self._process()
            outcomes = process.ask(expected, given)
            if len(outcomes) == 2:
                return Verdict(*outcomes)
            ended_by = self._forget(process)
            # Killed from outside, or by this answer's hunger for memory: another process will tell.
            if ended_by in ENDED_BY_A_LIMIT or last_try:
                break
        return Verdict(*[*outcomes, Outcome.TIMEOUT, Outcome.TIMEOUT][:2])

    def _process(self) -> "_Process":
        """This thread's process; a new one where there is none."""
        if getattr(self._mine, "process", None) is None:
            self._mine.process = self._start() or self._start()
        if self._mine.process is None:
            raise OmrError("the grader does not start; is math-verify installed? run docker/venv data")
        return self._mine.process

    def _start(self) -> "_Process | None":
        """A process that is ready; None where it ended before."""
        with self._lock:
            if self._closed:
                raise OmrError("grading was ended; run the same command again to go on")
            process = _Process(self._limits)
            self._processes.add(process)
        if process.is_ready():
            return process
        self._forget(process)
        return None

    def _forget(self, process: "_Process") -> int:
        """Leave a dead process; how it ended, as subprocess says it."""
        self._mine.process = None
        with self._lock:
            self._processes.discard(process)
        return process.kill()


class _Process:
    """A process of worker.py, as seen from here."""

    def __init__(self, limits: Limits) -> None:
        arguments = [os.getpid(), limits.cpu_seconds, limits.wall_seconds, limits.megabytes]
        paths = [str(settings.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {name: value for name, value in os.environ.items() if not settings.is_secret(name)}
        # The same hashes each time, for sympy's order of terms; no threads for what multiplies nothing.
        environment |= {
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONHASHSEED": "0",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "omr.evaluation.grading.worker", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
            encoding="utf-8",
        )

    def is_ready(self) -> bool:
        """Wait until it is; False where it does not come so far."""
        return self._process.stdout.readline() == "ready\n"

    def ask(self, expected: str, given: str) -> list[Outcome]:
        """The published outcome and the strict one; fewer where the process ended before."""
        try:
            self._process.stdin.write(f"{json.dumps([expected, given])}\n")
            self._process.stdin.flush()
        except OSError:
            return []
        lines = [self._process.stdout.readline().strip() for _ in range(2)]
        return [Outcome(line) for line in lines if line]

    def kill(self) -> int:
        """End it, if it has not ended; how it ended, as subprocess says it."""
        self._process.kill()
        return self._process.wait()


def _done(verdict: Verdict) -> "Future[Verdict]":
    future: Future[Verdict] = Future()
    future.set_result(verdict)
    return future
