"""A user of the campaign's Slurm: the commands that they type, and what becomes of their jobs."""

import subprocess
import sys
import threading
import time
from pathlib import Path

from omr.run.chain_state import Submitted
from omr.settings import ROOT, SETTINGS
from omr.workspace import RunFolder

from ..cluster.slurm.cluster import Cluster, wait
from .stages import RUN, Stage

ENDS = 240  # seconds in which everything has to have ended
ALIVE = ("PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "CONFIGURING")
# No submission while slurmctld is away: one trial's fault is not another's.
quiet = threading.RLock()


class Refused(Exception):
    """A command ended otherwise than well; its text is what it said."""


class User:
    """The commands of a user whose workspace is `root`, and their jobs."""

    def __init__(self, cluster: Cluster, root: Path) -> None:
        self.cluster, self.root = cluster, root
        plain = {k: v for k, v in cluster.env.items() if k not in SETTINGS and not k.startswith("PYTEST_")}
        own = {"WORKSPACE": str(root), "OMR_ENV_FILE": str(root / "env"), "RUNNER": "slurm"}
        self.told = ""  # by the newest submission
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
            self.told, _ = process.communicate(timeout=120)
        if process.returncode:
            raise Refused(self.told.strip())
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
