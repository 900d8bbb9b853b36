"""The engine's process under a link: run it, watch its saves, and have it stop before the allocation ends."""

import contextlib
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omr.cluster.allocation.attempt import Attempt
from omr.cluster.allocation.deadline import Deadline
from omr.run import lease
from omr.run.chain_state import ChainState

# Seconds after which an engine that holds its nodes without working is ended.
START, SILENT, LINGER = 7200, 3600, 600  # before its first step, between steps, after its last save
# Seconds by which a save has to outlast the longest known for that to be written down while it goes on.
NOTED = 15


@dataclass(frozen=True)
class EngineResult:
    """How the engine's process ended."""

    code: int  # exit code
    save_seconds: float  # the longest save seen; 0.0 for none


def run(
    attempt: Attempt, held: lease.Lease, command: Sequence[str], environment: Mapping[str, str]
) -> EngineResult:
    """Run the engine until it ends, the allocation nearly does, or the lease is lost.

    `environment` is added to ours. The engine is asked to save and stop by a file: what an engine does on
    signals, and which of them reach it through srun and a container, differs.
    """
    folder = attempt.folder
    stop, token = (folder.root / f".{word}-{attempt.job}-{attempt.restart}" for word in ("stop", "ray"))
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    deadline = Deadline(attempt.job, attempt.margin, ChainState.load(folder).save_seconds)
    environ = {
        **os.environ,
        **environment,
        lease.VARIABLE: str(held.path),
        "OMR_STOP": str(stop),
        "OMR_METRICS": str(folder.metrics),
        "RAY_AUTH_TOKEN_PATH": str(token),
        **({"OMR_DEADLINE": str(deadline.moment)} if deadline.moment else {}),
    }
    signals: list[str] = []
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda n, _: signals.append(signal.Signals(n).name))
    try:
        with engine_log(attempt).open("ab") as out:
            child = subprocess.Popen(command, stdout=out, stderr=out, env=environ, start_new_session=True)
        return _Watch(attempt, held, child, deadline, signals).until_it_ends(stop)
    finally:
        token.unlink(missing_ok=True)
        stop.unlink(missing_ok=True)


def engine_log(attempt: Attempt) -> Path:
    """Where the output of this attempt's engine goes."""
    return attempt.folder.logs / f"engine-{attempt.job}-{attempt.restart}.log"


@dataclass
class _Watch:
    """Looks at a running engine a few times a second."""

    attempt: Attempt
    held: lease.Lease
    child: subprocess.Popen
    deadline: Deadline
    signals: list[str]  # names of those that came to this process and are still to be acted on

    def until_it_ends(self, stop: Path) -> EngineResult:
        """Wait for the engine; touch `stop` when it has to save, end it when it is lost."""
        attempt = self.attempt
        saves = _SaveWatch(attempt.folder.checkpoints)
        idle = _Idle(attempt, saves)
        known = ChainState.load(attempt.folder).save_seconds or 0.0
        while self.child.poll() is None:
            time.sleep(0.2)
            saves.look()
            if not self.held.holds:
                _end(self.child)
                break
            if saves.under_way > known + NOTED:
                # If Slurm's kill comes first, the next link knows that it has to begin sooner.
                known = saves.under_way
                state = ChainState.load(attempt.folder)
                state.save_seconds = known
                state.save(attempt.folder)
            reason = why_to_save(self.signals, self.deadline)
            if reason and not attempt.stopped:
                attempt.stopped.append(reason)
                attempt.log(f"{reason}: saves and stops")
                stop.touch()
            if reason := idle.why_to_end():
                attempt.stopped.append(reason)
                attempt.log(f"{reason}: the engine is ended")
                _end(self.child)
                break
        return EngineResult(self.child.wait(), saves.longest)


def why_to_save(signals: list[str], deadline: Deadline) -> str | None:
    """Why the engine should save and stop now, if it should; takes what it has acted on from `signals`.

    USR2 means: the end of the allocation may have moved.
    """
    while signals:
        if signals.pop() == "SIGTERM":
            return "Slurm ends this job"
        deadline.ask_briefly()
    if deadline.passed():
        return f"the allocation ends in {deadline.margin} s"
    return None


class _SaveWatch:
    """Measures saves from outside: from tmp_step_<n> appearing to step_<n> standing."""

    def __init__(self, checkpoints: Path) -> None:
        self.folder, self.longest = checkpoints, 0.0  # the longest save in seconds
        self.since: dict[str, float] = {}  # of the saves that go on: when they were first seen
        self.last: float | None = None  # when a save was last seen to end

    @property
    def under_way(self) -> float:
        """How long the save that is going on has taken so far (seconds)."""
        return time.time() - min(self.since.values()) if self.since else 0.0

    def look(self) -> None:
        """Notice saves that began or ended since the last look."""
        now = {p.name for p in self.folder.glob("tmp_step_*")} if self.folder.is_dir() else set()
        for name in now - set(self.since):
            self.since[name] = time.time()
        for name in set(self.since) - now:
            self.last = time.time()
            self.longest = max(self.longest, self.last - self.since.pop(name))


class _Idle:
    """Notices an engine that holds its nodes without working: it hangs, or it has saved and does not end."""

    def __init__(self, attempt: Attempt, watch: _SaveWatch) -> None:
        self.attempt, self.watch = attempt, watch
        # When its metrics were last written, since when they stand still, and whether it has made a step.
        self.seen, self.since, self.stepped = self._written(), time.time(), False

    def _written(self) -> float:
        with contextlib.suppress(OSError):
            return self.attempt.folder.metrics.stat().st_mtime
        return 0.0

    def why_to_end(self) -> str | None:
        """Why the engine should be ended now, if it should."""
        now, written = time.time(), self._written()
        if written != self.seen:
            self.seen, self.since, self.stepped = written, now, True
        last = self.watch.last
        if last and now - last > LINGER and (self.attempt.stopped or self._last_step_is_saved()):
            return f"it saved {int(now - last)} s ago and does not end"
        if now - self.since > (SILENT if self.stepped else START):
            return f"no step for {int(now - self.since) // 60} minutes"
        return None

    def _last_step_is_saved(self) -> bool:
        return self.attempt.folder.checkpoint(self.attempt.run.schedule.steps).is_dir()


def _end(child: subprocess.Popen) -> None:
    """End the engine and all that it started: SIGTERM, which srun passes on to its tasks, then SIGKILL."""
    for number, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        try:
            os.killpg(child.pid, number)
            child.wait(seconds)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def last_line(log: Path) -> str:
    """The line of an engine's log that tells most: the last one that names an error, else the last."""
    try:
        with log.open("rb") as handle:
            handle.seek(max(0, handle.seek(0, 2) - 20_000))
            text = handle.read().decode(errors="replace")
    except OSError:
        return "it wrote no log"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("srun:", "slurmstepd"))]
    telling = [line for line in lines if "rror" in line]
    return (telling or lines or ["it said nothing"])[-1][:300]
