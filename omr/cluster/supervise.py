"""The engine's process under a link: run it, watch its saves, and have it stop before the allocation ends."""

import contextlib
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from omr.cluster import slurm
from omr.cluster.attempt import Attempt
from omr.errors import OmrError
from omr.run import lease
from omr.run.chain_state import ChainState

FIRST_MARGIN = 600  # seconds before the end, as long as no save was measured
LEAST_MARGIN = 60
# Seconds after which an engine that holds its nodes without working is ended.
START, SILENT, LINGER = 7200, 3600, 600  # before its first step, between steps, after its last save
NOTED = 15  # seconds by which a save has to outlast the longest known for that to be written down at once


def learned_margin(save_seconds: float | None, left: float | None = None) -> int:
    """Seconds before the end by which saving must begin: twice the longest save seen, and half a minute.

    Before any save was seen ten minutes, but no more than a quarter of what is `left` of the allocation.
    Never more than half of that, or each link of a chain would save after its first step.
    """
    if not save_seconds:
        return int(min(FIRST_MARGIN, left / 4 if left else FIRST_MARGIN))
    wanted = max(LEAST_MARGIN, 2 * save_seconds + 30)
    return int(min(wanted, left / 2 if left else wanted))


def run(
    attempt: Attempt, held: lease.Lease, command: Sequence[str], more: Mapping[str, str]
) -> tuple[int, float]:
    """Run the engine until it ends, the allocation nearly does, or the lease is lost.

    Returns its exit code and the longest save seen (seconds). The engine is asked to save and stop by a file;
    what an engine does on signals, and which of them reach it through srun and a container, differs.
    """
    folder = attempt.folder
    stop, token = (folder.root / f".{word}-{attempt.job}-{attempt.restart}" for word in ("stop", "ray"))
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    ends = _Ends(attempt, ChainState.load(folder).save_seconds)
    environ = {
        **os.environ,
        **more,
        lease.VARIABLE: str(held.path),
        "OMR_STOP": str(stop),
        "OMR_METRICS": str(folder.metrics),
        "RAY_AUTH_TOKEN_PATH": str(token),
        **({"OMR_DEADLINE": str(ends.deadline)} if ends.deadline else {}),
    }
    asked: list[str] = []
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda n, _: asked.append(signal.Signals(n).name))
    try:
        with (folder.logs / f"engine-{attempt.job}-{attempt.restart}.log").open("ab") as out:
            child = subprocess.Popen(command, stdout=out, stderr=out, env=environ, start_new_session=True)
        return _watch(attempt, held, child, stop, ends, asked)
    finally:
        token.unlink(missing_ok=True)
        stop.unlink(missing_ok=True)


def _watch(
    attempt: Attempt, held: lease.Lease, child: subprocess.Popen, stop: Path, ends: "_Ends", asked: list[str]
) -> tuple[int, float]:
    """Until the engine has ended; `asked` gets the names of the signals that come."""
    folder, watch = attempt.folder, _SaveWatch(attempt.folder.checkpoints)
    idle, noted = _Idle(attempt, watch), ChainState.load(folder).save_seconds or 0.0
    while child.poll() is None:
        time.sleep(0.2)
        saved = watch.look()
        if not held.holds:
            _end(child)
            break
        if watch.lasts > noted + NOTED:
            # If Slurm's kill comes first, the next link knows that it has to begin sooner.
            noted = watch.lasts
            state = ChainState.load(folder)
            state.save_seconds = noted
            state.save(folder)
        if saved and not attempt.checkpoints.engine_tidies:
            attempt.checkpoints.tidy(attempt.run, attempt.checkpoints.whole())
        reason = _reason(asked, ends)
        if reason and not attempt.stopped:
            attempt.stopped.append(reason)
            attempt.say(f"{reason}: saves and stops")
            stop.touch()
        if why := idle.why():
            attempt.stopped.append(why)
            attempt.say(f"{why}: the engine is ended")
            _end(child)
            break
    return child.wait(), watch.longest


def _reason(asked: list[str], ends: "_Ends") -> str | None:
    """Why the engine should stop now, if it should. USR2 means: look again at the end."""
    while asked:
        name = asked.pop()
        if name == "SIGTERM":
            return "Slurm ends this job"
        ends.look(tries=1, patience=10)
    if ends.late():
        return f"the allocation ends in {ends.margin} s"
    return None


class _Ends:
    """When the allocation ends; asked for again each minute, because a limit may be changed."""

    def __init__(self, attempt: Attempt, save_seconds: float | None) -> None:
        self.job = attempt.job
        self.end: float | None = None
        self.look()
        left = self.end - time.time() if self.end else None
        self.margin = attempt.margin if attempt.margin is not None else learned_margin(save_seconds, left)

    @property
    def deadline(self) -> float | None:
        return self.end - self.margin if self.end else None

    def look(self, **patience: float) -> None:
        self.looked = time.time()
        with contextlib.suppress(OmrError):  # the controller may be away: the end that we know stands
            self.end = slurm.end_time(self.job, **patience) or self.end

    def late(self) -> bool:
        if time.time() - self.looked > 60:
            # Nothing else is looked at while Slurm is asked.
            self.look(tries=1, patience=10)
        return self.deadline is not None and time.time() >= self.deadline


class _SaveWatch:
    """Measures saves from outside: from tmp_step_<n> appearing to step_<n> standing."""

    def __init__(self, checkpoints: Path) -> None:
        self.folder, self.longest, self.since = checkpoints, 0.0, {}
        self.last: float | None = None  # when a save was last seen to end

    @property
    def lasts(self) -> float:
        """How long the save that is under way has taken so far (seconds)."""
        return time.time() - min(self.since.values()) if self.since else 0.0

    def look(self) -> bool:
        """Whether a save has ended since the last look."""
        now = {p.name for p in self.folder.glob("tmp_step_*")} if self.folder.is_dir() else set()
        for name in now - set(self.since):
            self.since[name] = time.time()
        ended = set(self.since) - now
        for name in ended:
            self.last = time.time()
            self.longest = max(self.longest, self.last - self.since.pop(name))
        return bool(ended)


class _Idle:
    """Notices an engine that holds its nodes without working: it hangs, or it has saved and does not end."""

    def __init__(self, attempt: Attempt, watch: _SaveWatch) -> None:
        self.attempt, self.watch = attempt, watch
        self.seen, self.since, self.stepped = self._written(), time.time(), False

    def _written(self) -> float:
        with contextlib.suppress(OSError):
            return self.attempt.folder.metrics.stat().st_mtime
        return 0.0

    def why(self) -> str | None:
        """Why the engine should be ended now, if it should."""
        now, written = time.time(), self._written()
        if written != self.seen:
            self.seen, self.since, self.stepped = written, now, True
        last = self.watch.last
        if last and now - last > LINGER and (self.attempt.stopped or self._whole_way()):
            return f"it saved {int(now - last)} s ago and does not end"
        if now - self.since > (SILENT if self.stepped else START):
            return f"no step for {int(now - self.since) // 60} minutes"
        return None

    def _whole_way(self) -> bool:
        return self.attempt.folder.checkpoint(self.attempt.run.schedule.steps).is_dir()


def _end(child: subprocess.Popen) -> None:
    """End a step: srun passes SIGTERM on, and its second to the nodes' daemons."""
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
    """The most telling of an engine's last words: the last line that names an error, else the last."""
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
