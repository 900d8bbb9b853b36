"""A server's process: started, waited for until it answers, watched, ended with all that it started."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omr import settings
from omr.errors import OmrError, shown

STEP = 0.2  # seconds between two looks


class ServerEnded(OmrError):
    """A server that was started here is no more; `brief` says so without advice."""

    def __init__(self, brief: str, log: Path) -> None:
        super().__init__(f"{brief}; read {log}, then run the same command again")
        self.brief = brief


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(address: str, seconds: float = 10.0) -> bool:
    """Whether a server says of itself that it is well."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{address}/health", timeout=seconds) as answer:
            return answer.status == 200
    except (OSError, ValueError):  # urllib's own errors are OSErrors
        return False


@dataclass
class ServerProcess:
    """A command that serves at `address`; `start` it, and `stop` it whatever happens."""

    command: Sequence[str]
    address: str
    log: Path  # what it prints
    environment: Mapping[str, str] = field(default_factory=dict)  # beside this process's own, without secrets
    _keeper: subprocess.Popen | None = None

    def start(self) -> None:
        """Start it; it ends with this process, however that ends."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        own = {name: value for name, value in os.environ.items() if not settings.is_secret(name)}
        with self.log.open("ab") as out:
            self._keeper = subprocess.Popen(
                [sys.executable, "-P", "-m", "omr.evaluation.servers.keeper", *self.command],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**own, "PYTHONPATH": str(settings.ROOT), **self.environment},
                start_new_session=True,
            )

    def wait_until_ready(self, seconds: float) -> None:
        """Return when it answers; an OmrError where it ends before, or takes longer."""
        until = time.monotonic() + seconds
        while not answers(self.address):
            self.check()
            if time.monotonic() > until:
                raise OmrError(f"the server does not answer within {seconds:.0f} s; read {self.log}")
            time.sleep(STEP)

    def check(self) -> None:
        """A ServerEnded if it has ended, with the last that it printed."""
        code = self._keeper.poll()
        if code is not None:
            why = shown(_last_line(self.log))
            raise ServerEnded(f"the server ended (exit code {code}: {why})", self.log)

    def stop(self) -> None:
        """End it and all that it started, and wait for that."""
        if self._keeper is None:
            return
        with contextlib.suppress(OSError):
            self._keeper.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._keeper.wait(15)
        with contextlib.suppress(OSError):  # the group outlives a keeper that was killed itself
            os.killpg(self._keeper.pid, signal.SIGKILL)
        self._keeper.wait()


def _last_line(log: Path) -> str:
    """The last line of a log that says something."""
    with contextlib.suppress(OSError):
        with log.open("rb") as handle:
            handle.seek(max(0, log.stat().st_size - 4000))
            lines = handle.read().decode(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
    return "it has no log"


async def watch(processes: Sequence[ServerProcess], every: float = 2.0) -> None:
    """Raise a ServerEnded when one of them has ended; else never return."""
    while True:
        for process in processes:
            process.check()
        await asyncio.sleep(every)
