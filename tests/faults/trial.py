"""One trial: a stage in a workspace of its own, a fault, the same command again, and the proof."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from omr.run.chain_state import Submitted
from omr.settings import ROOT, SETTINGS
from omr.workspace import RunFolder

from ..cluster.slurm.cluster import Cluster, wait
from .undisturbed import RUN, STAGES, Stage, Undisturbed, products

ENDS = 240  # seconds in which everything has to have ended
ALIVE = ("PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "CONFIGURING")
LEFT = re.compile(r"(tmp|old)_step_\d+|\..*\.(tmp|old|partial|\d+\.tmp)|\.hub-.*|.*\.part|\.(stop|ray)-.*")
# No submission while slurmctld is away: one trial's fault is not another's.
quiet = threading.RLock()


class Slurm:
    """The commands of a user whose workspace is `root`, and their jobs."""

    def __init__(self, cluster: Cluster, root: Path) -> None:
        self.cluster, self.root = cluster, root
        plain = {k: v for k, v in cluster.env.items() if k not in SETTINGS and not k.startswith("PYTEST_")}
        own = {"WORKSPACE": str(root), "OMR_ENV_FILE": str(root / "env"), "RUNNER": "slurm"}
        self.env = {**plain, **own, "OMR_VENV": sys.prefix, "PYTHONPATH": str(ROOT)}

    def command(self, stage: Stage, *more: str) -> list[str]:
        """What docker/run runs with RUNNER=slurm."""
        words = [*stage.words, *more]
        if stage.submits:
            return [sys.executable, str(ROOT / stage.script), *words]
        return [sys.executable, "-P", "-m", "omr.cluster.stages", stage.tier, stage.script, *words]

    def start(self, stage: Stage, *more: str, **env: str) -> subprocess.Popen:
        """Begin the command that submits a stage."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        environ = {**self.env, **dict(stage.settings), **env}
        return subprocess.Popen(
            self.command(stage, *more), env=environ, cwd=ROOT, text=True, start_new_session=True, **pipes
        )

    def submit(self, stage: Stage, *more: str, **env: str) -> dict[str, str]:
        """Submit a stage; ids by key, or Refused with what the command said."""
        with quiet:
            process = self.start(stage, *more, **env)
            said, _ = process.communicate(timeout=120)
        if process.returncode:
            raise Refused(said.strip())
        return self.ids(stage)

    def ids(self, stage: Stage) -> dict[str, str]:
        """The ids of a stage's newest jobs."""
        return {job.key: job.id for job in Submitted.load(self.root / stage.record).jobs}

    def state(self, job: str) -> str:
        """State of a job, or of the most alive of an array's tasks; `?` while the controller is away."""
        try:
            words = self.cluster.call("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%T").split()
        except (AssertionError, subprocess.TimeoutExpired):
            return "?"
        return ([w for w in words if w in ALIVE] or words or [""])[0]

    def reason(self, job: str) -> str:
        """Why a job waits, in Slurm's word."""
        return self.cluster.call("squeue", "-h", "-j", job, "-o", "%r", check=False).strip()

    def running(self, ids: dict[str, str]) -> float:
        """Wait until the first job has begun; when that was."""
        first = next(iter(ids.values()))
        wait(lambda: self.state(first) not in ("PENDING", "?"), ENDS, f"{ids} did not start", step=0.1)
        return time.monotonic()

    def wait(self, ids: dict[str, str], seconds: float = ENDS) -> dict[str, str]:
        """Wait until all have ended; key -> state."""
        over = (*ALIVE, "?")
        wait(lambda: all(self.state(i) not in over for i in ids.values()), seconds, f"{ids} did not end")
        return {key: self.state(i) for key, i in ids.items()}

    def hurry(self, job: str) -> None:
        """A requeued job waits two minutes by Slurm's own rule; a trial does not."""
        shown = self.cluster.call("squeue", "-h", "-j", job, "-o", "%T %r", check=False).strip()
        if shown == "PENDING BeginTime":
            self.cluster.call("scontrol", "update", f"jobid={job}", "starttime=now", check=False)

    def said(self) -> str:
        """All that the jobs and the event log said; a server's own log is not ours."""
        folders = (self.root / "logs", self.root / RUN / "logs")
        logs = [path for folder in folders for path in sorted(folder.glob("*.log"))]
        logs = [path for path in logs if not path.name.startswith("server-")]
        logs = [*logs, RunFolder(self.root / RUN).event_log]
        return "\n".join(path.read_text(errors="replace") for path in logs if path.is_file())


class Refused(Exception):
    """A command ended otherwise than well; its text is what it said."""


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
    words: list[str] = field(default_factory=list)  # what commands said
    damaged: Path | None = None  # a file that the fault changed: what hangs on it may be made again
    undo: list = field(default_factory=list)  # what mends the machine
    node: int = 0

    def __post_init__(self) -> None:
        self.slurm = Slurm(self.cluster, self.root)

    def strike(self) -> None:
        """Note that the fault is there now."""
        self.struck = self.struck or time.monotonic()

    def begin(self, *more: str, **env: str) -> str:
        """Submit the stage and wait until it runs; the first job's id."""
        self.jobs = self.slurm.submit(self.stage, *more, **env)
        began = self.slurm.running(self.jobs)
        job = next(iter(self.jobs.values()))
        share = self.dice.uniform(0.1, 0.85) * self.sooner
        time.sleep(max(0.0, began + share * self.undisturbed.seconds[self.stage.name] - time.monotonic()))
        if self.slurm.state(job) not in ("RUNNING", "COMPLETING"):
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
        wait(lambda: self.slurm.state(first) not in (*ALIVE, "?"), seconds, "the job did not end", step=0.1)
        if self.slurm.state(first) not in ("COMPLETED",):
            self.noticed = self.noticed or time.monotonic()
        self.slurm.wait(self.jobs, seconds)

    def refused(self, error: Refused) -> None:
        """A command refused to begin."""
        self.noticed = self.noticed or time.monotonic()
        self.words.append(str(error))

    def attempt(self, *more: str, **env: str) -> bool:
        """Submit and wait for the end, whatever that is; whether all went well."""
        try:
            self.jobs = self.slurm.submit(self.stage, *more, **env)
        except Refused as error:
            self.refused(error)
            return False
        self.end()
        return self.whole()

    def whole(self) -> bool:
        """Whether the stage has left what an undisturbed one leaves."""
        return products(self.root, self.stage) == self.undisturbed.products[self.stage.name]


@dataclass
class Outcome:
    """What came of a trial."""

    number: int
    family: str
    fault: str
    stage: str
    detected: float | None = None  # seconds from the fault until a job ended for it or a command refused
    recovered: float | None = None  # seconds from the first command after it to a finished stage
    noted: bool = False  # it ended in an error, which was mended by running again
    false_alarm: bool = False  # refused where nothing was wrong any more
    faults: list[str] = field(default_factory=list)  # what did not hold
    detail: str = ""


def finished(root: Path) -> dict[str, tuple[int, int]]:
    """What stands under a final name, with size and time: nothing of it may be lost or made again."""
    found = {}
    patterns = ("data/*.jsonl", "models/*/*", "cache/data/*/*", f"{RUN}/checkpoints/step_*/*")
    for pattern in (*patterns, f"{RUN}/hf/step_*/*", f"{RUN}/final/*"):
        for path in root.glob(pattern):
            whole = (path.parent / "manifest.json").exists() or (path.parent / "complete.json").exists()
            if path.suffix == ".jsonl":
                whole = path.with_suffix(".manifest.json").exists()
            relative = path.relative_to(root)
            if whole and not any(part.startswith(".") for part in relative.parts):
                found[str(relative)] = (path.stat().st_size, path.stat().st_mtime_ns)
    return found


def judge(trial: Trial, outcome: Outcome, before: dict[str, tuple[int, int]]) -> None:
    """Run the same command again, at most twice, and note what does not hold afterwards."""
    began = time.monotonic()
    outcome.recovered = trial.recovered
    if not trial.whole():
        for attempt in (1, 2):
            trial.words.clear()
            if trial.attempt():
                break
            outcome.false_alarm = outcome.false_alarm or attempt == 1
        outcome.recovered = time.monotonic() - began
    wanted, there = trial.undisturbed.products[trial.stage.name], products(trial.root, trial.stage)
    if different := sorted(n for n in {*wanted, *there} if wanted.get(n) != there.get(n)):
        outcome.faults.append(f"other bytes than undisturbed: {', '.join(different)[:200]}")
    after = finished(trial.root)
    for name, facts in before.items():
        if trial.damaged is None and name in after and after[name] != facts:
            outcome.faults.append(f"made again though it was finished: {name}")
        if name not in after and "/checkpoints/" not in name:
            outcome.faults.append(f"lost: {name}")
    averaged = (12, 16, 20, 24) if trial.stage.name in ("train", "convert", "average") else ()
    for step in averaged:
        if not (trial.root / RUN / f"checkpoints/step_{step}/complete.json").exists():
            outcome.faults.append(f"lost: step_{step}")
    left = [str(p.relative_to(trial.root)) for p in trial.root.rglob("*") if LEFT.fullmatch(p.name)]
    if left:
        outcome.faults.append(f"left behind: {', '.join(sorted(left))[:200]}")
    said = "\n".join([trial.slurm.said(), *trial.words])
    if "Traceback (most recent call last)" in said:
        at = said.index("Traceback (most recent call last)")
        outcome.faults.append("a traceback")
        outcome.detail = said[at : at + 3000]
    if outcome.faults and not outcome.detail:
        outcome.detail = said[-2500:]
    held = trial.cluster.call("squeue", "-h", "-t", "PENDING,RUNNING", "-o", "%k", check=False).split()
    if any(word.startswith(str(trial.root)) for word in held):
        outcome.faults.append("a job is left in the queue")


def run(trial: Trial, outcome: Outcome, inflict) -> Outcome:
    """The whole trial; what fails in it is a fault of the outcome."""
    try:
        trial.undisturbed.copy(trial.root, trial.stage.name)
        try:
            inflict(trial)
        finally:
            for mend in reversed(trial.undo):
                mend()
        if trial.noticed and trial.struck:
            outcome.detected = max(0.0, trial.noticed - trial.struck)
        outcome.noted = trial.noticed is not None
        judge(trial, outcome, finished(trial.root))
    except Missed:
        raise
    except (AssertionError, OSError, ValueError, subprocess.SubprocessError, Refused) as error:
        outcome.faults.append(f"{type(error).__name__}: {error}"[:600])
        outcome.detail = trial.slurm.said()[-2500:]
    finally:
        clean(trial)
    return outcome


def clean(trial: Trial) -> None:
    """End what is left of the trial, and remove its workspace."""
    queued = trial.cluster.call("squeue", "-h", "-o", "%i %k", check=False).splitlines()
    mine = [line.split()[0] for line in queued if str(trial.root) in line]
    if mine:
        trial.cluster.call("scancel", *mine, check=False)
    for process in trial.cluster.ours(f"WORKSPACE={trial.root}"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    for _ in range(3):
        if subprocess.run(["mountpoint", "-q", trial.root]).returncode == 0:
            subprocess.run(["umount", "--lazy", trial.root])
    shutil.rmtree(trial.root, ignore_errors=True)


def load(line: str) -> Outcome:
    """An outcome from its line."""
    return Outcome(**json.loads(line))


__all__ = ["STAGES", "Missed", "Outcome", "Refused", "Trial"]
