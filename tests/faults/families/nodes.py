"""A node's daemon dies, its orphan goes on writing, the controller is started anew."""

import contextlib
import signal
import time
from pathlib import Path

from ...cluster.slurm.cluster import wait
from ..trial import Missed, Trial
from ..user import ENDS, quiet
from .base import ALL, Fault


def _lost(trial: Trial, orphan: bool) -> None:
    """The slurmd of the job's node dies; an `orphan` goes on, cut off from the controller."""
    job = trial.begin()
    node = trial.cluster.call("squeue", "-h", "-j", job, "-o", "%N").strip()
    if not node:
        raise Missed
    processes = trial.processes(job)
    trial.strike()
    trial.cluster.kill(node)
    trial.undo.append(lambda: _node_back(trial, node))
    if orphan:
        for process in processes:
            with contextlib.suppress(OSError):
                if Path(f"/proc/{process}/comm").read_text().strip() == "srun":
                    trial.send([process], signal.SIGSTOP)
    else:
        trial.send(processes, signal.SIGKILL)

    def over() -> bool:
        trial.user.hurry(job)
        state = trial.user.state(job)
        trial.noticed = trial.noticed or (time.monotonic() if state == "PENDING" else None)
        return state not in ("PENDING", "RUNNING", "COMPLETING", "?")

    wait(over, ENDS, f"the job of {node} did not end")
    trial.user.wait(trial.jobs)
    trial.send(trial.cluster.of_job(job), signal.SIGKILL)


def _node_back(trial: Trial, node: str) -> None:
    trial.cluster.start_node(node)
    trial.cluster.call("scontrol", "update", f"nodename={node}", "state=resume", check=False)
    wait(
        lambda: trial.cluster.call("sinfo", "-h", "-n", node, "-o", "%t", check=False).strip() == "idle",
        60,
        f"{node} did not come back",
    )


def _controller(trial: Trial) -> None:
    trial.begin()
    with quiet:
        trial.strike()
        trial.cluster.restart_controller()
        wait(
            lambda: trial.cluster.call("squeue", "-h", check=False) or trial.cluster.states(),
            60,
            "no slurmctld",
        )
    trial.end()


FAULTS = (
    Fault("slurmd dies with its job", ALL, lambda trial: _lost(trial, orphan=False)),
    Fault("slurmd dies, its orphan goes on writing", ALL, lambda trial: _lost(trial, orphan=True)),
    Fault("slurmctld is started anew", ALL, _controller),
)
