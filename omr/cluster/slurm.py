"""Slurm's own commands: sbatch, squeue, sacct, scontrol, scancel. Nothing else runs them."""

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from omr.errors import OmrError, RequestError, printable
from omr.settings.setting import TIME_LIMIT

ACTIVE = {"RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "SIGNALING", "STAGE_OUT", "STOPPED"}
LIVE = ACTIVE | {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
PATIENCE = 60  # seconds to wait for an answer of the controller, which may be busy


class NoJobId(OmrError):
    """sbatch succeeded, and did not say the id of its job."""


@dataclass(frozen=True)
class Queued:
    """One job, or one task of an array, as squeue or sacct shows it."""

    id: str  # 12, or 12_3 for a task
    state: str
    reason: str
    name: str
    comment: str = ""
    start: str = ""
    nodes: str = ""
    tasks: str = ""  # of an array's live tasks how many are in which state, where they are several

    @property
    def job(self) -> str:
        """The id that sbatch gave: an array's tasks share it."""
        return self.id.partition("_")[0]

    @property
    def live(self) -> bool:
        """Still queued or running."""
        return self.state in LIVE

    @property
    def held(self) -> bool:
        """Waiting for its user to release it."""
        return self.state == "PENDING" and self.reason == "JobHeldUser"


def available() -> bool:
    """Are Slurm's commands here?"""
    return shutil.which("sbatch") is not None


def need() -> None:
    """A RequestError where Slurm's commands are not installed."""
    if not available():
        raise RequestError(
            "sbatch is not on this machine; run this on the cluster's login node, or set RUNNER=host"
        )


# A user's own views of the queue, which would hide jobs from us or change how times are written.
VIEWS = ("SQUEUE_", "SACCT_", "SCANCEL_", "SLURM_TIME_FORMAT")


def call(
    command: Sequence[str],
    env: Mapping[str, str] | None = None,
    tries: int = 1,
    quiet: bool = False,
    patience: float = PATIENCE,
    stderr: bool = False,
) -> str:
    """The output of a Slurm command; an OmrError with its own words where it fails, after `tries`.

    `patience` is how long each try may take (seconds); `env` the whole environment, else this one's. With
    `stderr` what it writes there is part of the output.
    """
    if env is None:
        env = {name: value for name, value in os.environ.items() if not name.startswith(VIEWS)}
    for attempt in range(tries):
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                encoding="utf-8",
                errors="replace",  # a job's name may be in any encoding
                timeout=patience,
                env=env,
                stdin=subprocess.DEVNULL,
            )
        except FileNotFoundError:
            raise OmrError(f"{command[0]} is not on this machine; Slurm's commands are needed here") from None
        except subprocess.TimeoutExpired:
            said = f"no answer in {patience} s"
        else:
            if done.returncode == 0:
                return done.stdout + (done.stderr if stderr else "")
            said = _words(command[0], done.stderr) or f"exit code {done.returncode}"
        if attempt + 1 < tries:
            time.sleep(min(2**attempt, 10))
    if quiet:
        return ""
    raise OmrError(f"{command[0]} failed: {said}")


def _words(tool: str, stderr: str) -> str:
    """The last line that a command wrote: those before it say how it came to that."""
    line = (stderr.strip().splitlines() or [""])[-1].strip()
    for prefix in (f"{tool}: ", "error: ", "fatal: "):
        line = line.removeprefix(prefix)
    where = "; run this on the cluster's login node" if "configuration source" in line else ""
    return line + where


def sbatch(argv: Sequence[str], env: Mapping[str, str]) -> str:
    """Submit one job and return its id; `env` is the whole environment that the job gets.

    A site's wrapper may print before the id, which is the last line that is one (`145`, or `145;cluster`);
    NoJobId without any: a job may stand in the queue all the same.
    """
    said = call(argv, env=env)
    found = re.findall(r"^\s*([0-9]+)(?:;\S*)?\s*$", said, re.MULTILINE)
    if not found:
        answer = " ".join(said.split())[:200] or "nothing"
        raise NoJobId(f"sbatch answered {answer!r}, which is no job id; look for a wrapper (type -a sbatch)")
    return found[-1]


_SQUEUE = "%i|%T|%r|%j|%k|%S|%N"


def queue(tries: int = 1) -> list[Queued]:
    """This user's jobs that slurmctld still remembers, finished ones included."""
    user = str(os.getuid())
    lines = call(["squeue", "-h", "-r", "-t", "all", "-u", user, "-o", _SQUEUE], tries=tries).split("\n")
    rows = [Queued(*map(printable, line.split("|", 6))) for line in lines if line.count("|") >= 6]
    return [row for row in rows if _ID.fullmatch(row.id)]


# A job, a task of its array, or (squeue without -r, sacct) the tasks that wait.
_ID = re.compile(r"[0-9]+(_([0-9]+|\[[0-9,%-]+\]))?", re.ASCII)


_SACCT = "JobID,State,JobName,Reason,ExitCode,NodeList"


def history(ids: Iterable[str]) -> list[Queued]:
    """The same from accounting; empty where the cluster keeps none, or it does not answer."""
    wanted = ",".join(ids)
    if not wanted or not shutil.which("sacct"):
        return []
    out = call(["sacct", "-n", "-X", "-P", "-j", wanted, "-o", _SACCT], quiet=True)
    rows = [map(printable, line.split("|")) for line in out.split("\n") if line.count("|") == 5]
    # The user who cancelled a job stands behind its state.
    found = [Queued(i, (*state.split(), "")[0], _why(*rest), name) for i, state, name, *rest in rows]
    return [row for row in found if row.state and _ID.fullmatch(row.id)]


def _why(reason: str, code: str, nodes: str) -> str:
    """Why a job ended; accounting's own reason is what it last waited for, also of a job that began then."""
    if nodes in ("", "None assigned"):
        return reason
    status, _, number = code.partition(":")
    if number.strip("0"):
        return f"signal {number}"
    return f"exit code {status}" if status.strip("0") else ""


def _telling(row: Queued) -> int:
    """How much a task says about its array: one that runs the most, then a waiting, a failed, a good one."""
    if row.state in ACTIVE:
        return 3
    return 2 if row.live else int(row.state != "COMPLETED")


def jobs(ids: Iterable[str]) -> dict[str, Queued]:
    """What Slurm still knows about these jobs, by id; the most telling task stands for an array.

    Only the controller knows what lives: accounting, which may be behind, is asked about ended jobs alone.
    """
    ids = list(ids)
    queued = [row for row in queue() if row.job in ids]
    known = {row.id for row in queued}
    # Tasks of an array are forgotten one by one.
    lost = [i for i in ids if not any(row.job == i and (row.live or row.id == i) for row in queued)]
    ended = [row for row in history(lost) if row.id not in known and not row.live]
    found: dict[str, Queued] = {}
    for row in sorted([*queued, *ended], key=_telling):
        found[row.job] = row
    return {job: replace(row, tasks=_tasks(job, queued)) for job, row in found.items()}


def _tasks(job: str, rows: Iterable[Queued]) -> str:
    """`2 RUNNING, 5 PENDING`: the live tasks of an array; those that ended are forgotten one by one."""
    states = Counter(row.state for row in rows if row.job == job and row.live)
    return ", ".join(f"{count} {state}" for state, count in states.items()) if states.total() > 1 else ""


def live_with_comment(comment: str) -> list[Queued]:
    """This user's live jobs that carry `comment`, which is how a run's jobs are known."""
    return [row for row in queue() if row.live and row.comment == comment]


def refuse_second(comment: str, title: str) -> None:
    """A RequestError with their ids while jobs of an earlier submission with this comment live."""
    if live := live_with_comment(comment):
        ids = ", ".join(dict.fromkeys(row.job for row in live))
        held = "; they are held, and scontrol release starts them" if all(row.held for row in live) else ""
        raise RequestError(
            f"{title} has a chain already (jobs {ids}{held}); make status shows it, make cancel ends it"
        )


def release_command(ids: Iterable[str]) -> list[str]:
    """The command that lets held jobs start."""
    return ["scontrol", "release", *ids]


def release(ids: Collection[str]) -> None:
    """Let held jobs start, in one call; an OmrError where Slurm refuses that for any of them."""
    call(release_command(ids))


def cancel(ids: Iterable[str]) -> None:
    """Cancel jobs; those that have ended are no matter."""
    ids = list(dict.fromkeys(ids))
    if ids:
        call(["scancel", "--quiet", *ids], tries=4)


def exclude(ids: Iterable[str], nodes: Iterable[str], environ: Mapping[str, str] = os.environ) -> None:
    """Have waiting jobs do without some nodes, beside those that SBATCH_EXCLUDE names, if Slurm lets us."""
    names = ",".join(filter(None, [environ.get("SBATCH_EXCLUDE"), *nodes]))
    for job in ids:
        call(["scontrol", "update", f"JobId={job}", f"ExcNodeList={names}"], quiet=True)


def can_do_without(nodes: Collection[str], environ: Mapping[str, str] = os.environ) -> bool:
    """Are there enough other nodes for a job as large as this one? Else it would wait for ever.

    Where a reservation, a constraint or a list of nodes narrows the choice, nobody here can tell.
    """
    if any(environ.get(name) for name in ("SLURM_JOB_RESERVATION", "SBATCH_CONSTRAINT", "SBATCH_NODELIST")):
        return False
    partition, needed = environ.get("SLURM_JOB_PARTITION"), int(environ.get("SLURM_JOB_NUM_NODES") or 1)
    if not partition:
        return False
    out = call(["sinfo", "-h", "-N", "-p", partition, "-o", "%N %t"], quiet=True)
    rows = [line.split() for line in out.splitlines()]
    # A state's suffix (`idle*`) says that the node does not answer, or sleeps.
    good = {row[0] for row in rows if len(row) == 2 and row[1] in ("idle", "alloc", "mix", "comp", "plnd")}
    return len(good - set(nodes)) >= needed


def is_active(job: str) -> bool | None:
    """Does Slurm say that this job holds nodes now? None where it does not answer."""
    try:
        out = call(["squeue", "-h", "-t", "all", "-j", job, "-o", "%T"], tries=3)
    except OmrError as error:
        return False if "Invalid job id" in str(error) else None
    return any(word in ACTIVE for word in out.split())


def end_time(
    job: str, environ: Mapping[str, str] = os.environ, tries: int = 4, patience: float = PATIENCE
) -> float | None:
    """When the allocation really ends, in seconds since the epoch; None where it has no end.

    squeue's word comes first: a changed limit and a preemption move the end, and SLURM_JOB_END_TIME stays
    what it was at the start. Where squeue does not answer, that serves; an OmrError where neither does.
    """
    try:
        text = call(["squeue", "-h", "-j", job, "-o", "%e"], tries=tries, patience=patience).strip()
    except OmrError:
        with contextlib.suppress(KeyError, ValueError):
            return float(environ["SLURM_JOB_END_TIME"])
        raise
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None


def limit(text: str | None) -> float | None:
    """Seconds of a Slurm time limit; None where there is none, or no end."""
    found = TIME_LIMIT.pattern.fullmatch(text or "")
    if not found:
        return None
    part = {name: int(number or 0) for name, number in found.groupdict().items()}
    hours = 24 * part["d"] + part["h"] + part["dh"]
    minutes = 60 * hours + part["m"] + part["hm"] + part["dhm"]
    seconds = 60 * minutes + part["s"] + part["hms"] + part["dhms"]
    return seconds or None  # Slurm takes 0 for no limit
