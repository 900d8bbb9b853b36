"""One trial: a stage in a workspace of its own, and what a fault can do to it."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from ..cluster.slurm.cluster import Cluster, wait
from .stages import Stage, products
from .undisturbed import Undisturbed
from .user import ALIVE, ENDS, Refused, User


class Missed(Exception):
    """The stage had ended before the fault could strike."""


@dataclass
class Trial:
    """What a fault may do, and what it has to be told."""

    cluster: Cluster
    undisturbed: Undisturbed
    root: Path  # its workspace
    stage: Stage
    dice: random.Random
    sooner: float = 1.0  # a share of the usual moment, where the stage was over before
    struck: float | None = None  # when the fault struck, by the monotonic clock
    noticed: float | None = None  # when a job ended for it, or a command refused
    recovered: float | None = None  # seconds, where the fault itself has the command run again
    jobs: dict[str, str] = field(default_factory=dict)  # ids of the newest command's, by key
    repeated: bool = False  # the command was run again on what it had finished
    words: list[str] = field(default_factory=list)  # what commands said
    damaged: Path | None = None  # a file that the fault changed: what hangs on it may be made again
    how: str = ""  # what became of that file
    undo: list = field(default_factory=list)  # what mends the machine

    def __post_init__(self) -> None:
        self.user = User(self.cluster, self.root)

    def strike(self) -> None:
        """Note that the fault is there now."""
        self.struck = self.struck or time.monotonic()

    def begin(self, *more: str, **env: str) -> str:
        """Submit the stage and wait until it runs; the first job's id."""
        self.jobs = self.user.submit(self.stage, *more, **env)
        began = self.user.running(self.jobs)
        job = next(iter(self.jobs.values()))
        share = self.dice.uniform(0.1, 0.85) * self.sooner
        time.sleep(max(0.0, began + share * self.undisturbed.seconds[self.stage.name] - time.monotonic()))
        if self.user.state(job) not in ("RUNNING", "COMPLETING"):
            raise Missed
        return job

    def processes(self, job: str) -> list[int]:
        """The processes of a job, the largest first."""

        def resident(process: int) -> int:
            with contextlib.suppress(OSError, ValueError, IndexError):
                return int(Path(f"/proc/{process}/statm").read_text().split()[1])
            return 0

        found = sorted(self.cluster.of_job(job), key=resident, reverse=True)
        if not found:
            raise Missed
        return found

    def send(self, processes: list[int], number: signal.Signals) -> None:
        """Send a signal to processes, of which some may be gone."""
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def end(self, seconds: float = ENDS) -> None:
        """Wait until all jobs of the disturbed command have ended."""
        first = next(iter(self.jobs.values()))
        wait(lambda: self.user.state(first) not in (*ALIVE, "?"), seconds, "the job did not end", step=0.1)
        if self.user.state(first) not in ("COMPLETED",):
            self.noticed = self.noticed or time.monotonic()
        self.user.wait(self.jobs, seconds)

    def refused(self, error: Refused) -> None:
        """A command refused to begin."""
        self.noticed = self.noticed or time.monotonic()
        self.words.append(str(error))

    def attempt(self, *more: str, **env: str) -> bool:
        """Submit and wait for the end, whatever that is; whether all went well."""
        try:
            self.jobs = self.user.submit(self.stage, *more, **env)
        except Refused as error:
            self.refused(error)
            return False
        self.end()
        return self.whole()

    def whole(self) -> bool:
        """Whether the stage has left what an undisturbed one leaves."""
        return products(self.root, self.stage) == self.undisturbed.products[self.stage.name]

    def clean(self) -> None:
        """End what is left of the trial, and remove its workspace."""
        queued = self.cluster.call("squeue", "-h", "-o", "%i %k", check=False).splitlines()
        mine = [line.split()[0] for line in queued if str(self.root) in line]
        if mine:
            self.cluster.call("scancel", *mine, check=False)
        for process in self.cluster.ours(f"WORKSPACE={self.root}"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        for _ in range(3):
            if subprocess.run(["mountpoint", "-q", self.root]).returncode == 0:
                subprocess.run(["umount", "--lazy", self.root])
        shutil.rmtree(self.root, ignore_errors=True)
