"""Processes that are killed, stopped, or get no more memory."""

import resource
import signal
import time
from pathlib import Path

from ..trial import Missed, Trial
from .base import ALL, Fault


def _all_killed(trial: Trial) -> None:
    job = trial.begin()
    found = trial.processes(job)
    trial.strike()
    trial.send(found, signal.SIGKILL)
    trial.end()


def _largest_killed(trial: Trial) -> None:
    """What the kernel does where memory runs out."""
    job = trial.begin()
    found = trial.processes(job)
    trial.strike()
    trial.send(found[:1], signal.SIGKILL)
    trial.end()


def _terminated(trial: Trial) -> None:
    """scancel: SIGTERM, and SIGKILL after Slurm's KillWait."""
    job = trial.begin()
    trial.strike()
    trial.cluster.call("scancel", job)
    trial.end()


def _paused(trial: Trial) -> None:
    job = trial.begin()
    found = trial.processes(job)
    trial.strike()
    trial.send(found, signal.SIGSTOP)
    trial.undo.append(lambda: trial.send(found, signal.SIGCONT))
    time.sleep(trial.dice.uniform(2, 6))
    trial.send(found, signal.SIGCONT)
    trial.end()


def _stopped_beyond_the_limit(trial: Trial) -> None:
    """Slurm counts limits in minutes, ends what outlives one, and kills what does not hear that."""
    job = trial.begin(TIME="1")
    found = trial.processes(job)
    trial.strike()
    trial.send(found, signal.SIGSTOP)
    trial.undo.append(lambda: trial.send(found, signal.SIGCONT))
    trial.end()


def _no_more_memory(trial: Trial) -> None:
    """The largest process may not grow by more than 8 MB."""
    job = trial.begin()
    largest = trial.processes(job)[0]
    try:
        size = int(Path(f"/proc/{largest}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(largest, resource.RLIMIT_AS, (size + (8 << 20), size + (8 << 20)))
    except (OSError, ValueError) as error:
        raise Missed from error
    trial.strike()
    trial.end()


FAULTS = (
    Fault("SIGKILL of a whole job", ALL, _all_killed),
    Fault("SIGKILL of its largest process (out of memory)", ALL, _largest_killed),
    Fault(
        "no more memory is given",
        ("data", "model", "prepare", "train", "convert", "average"),
        _no_more_memory,
    ),
    Fault("SIGTERM by scancel", ALL, _terminated),
    Fault("SIGSTOP for seconds", ALL, _paused),
    Fault("SIGSTOP beyond the time limit", ("data", "train", "eval"), _stopped_beyond_the_limit),
)
