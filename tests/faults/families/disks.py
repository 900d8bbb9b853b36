"""A disk that is full, has no inodes left, or may not be written."""

import os
import subprocess

from ...cluster.slurm.cluster import wait
from ..stages import size
from ..trial import Trial
from .base import ALL, Fault

ROOM = 200 << 20  # bytes of the small file system
FREE_INODES = 100_000


def _mounted(trial: Trial) -> None:
    """The trial's workspace on a file system of its own."""
    aside = trial.root.with_name(f"{trial.root.name}.aside")
    trial.root.rename(aside)
    trial.root.mkdir()
    options = f"size={ROOM},nr_inodes={FREE_INODES}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "omr-faults", trial.root], check=True)
    subprocess.run(["cp", "-a", f"{aside}/.", trial.root], check=True)
    subprocess.run(["rm", "-rf", aside], check=True)


def _remount(trial: Trial, options: str) -> None:
    """Change a mount; a file that somebody has open for writing keeps it busy for a moment."""
    command = ["mount", "-o", f"remount,{options}", str(trial.root)]
    wait(lambda: subprocess.run(command, capture_output=True).returncode == 0, 10, " ".join(command))


def _full(trial: Trial) -> None:
    """A share of what the stage writes has room."""
    left = int(trial.undisturbed.sizes[trial.stage.name] * trial.dice.uniform(0.1, 0.7))
    # What is there, and what the folders take: tmpfs counts pages.
    ballast = trial.root / ".ballast"
    free = os.statvfs(trial.root)
    ballast.write_bytes(bytes(max(0, free.f_bavail * free.f_bsize - left)))
    trial.undo.append(lambda: ballast.unlink(missing_ok=True))
    trial.strike()
    trial.attempt()


def _no_inodes(trial: Trial) -> None:
    there = os.statvfs(trial.root)
    used = there.f_files - there.f_ffree
    _remount(trial, f"nr_inodes={used + trial.dice.randint(1, 14)}")
    trial.undo.append(lambda: _remount(trial, f"nr_inodes={FREE_INODES}"))
    trial.strike()
    trial.attempt()


def _read_only(trial: Trial) -> None:
    _remount(trial, "ro")
    trial.undo.append(lambda: _remount(trial, "rw"))
    trial.strike()
    trial.attempt()


def _read_only_before_the_job(trial: Trial) -> None:
    """The submission still could write; the job cannot."""
    trial.jobs = trial.user.submit(trial.stage, SBATCH_BEGIN="now+1hour")
    _remount(trial, "ro")
    trial.undo.append(lambda: _remount(trial, "rw"))
    trial.strike()
    for job in trial.jobs.values():
        trial.cluster.call("scontrol", "update", f"jobid={job}", "starttime=now")
    trial.end()


def _on_a_small_disk(inflict):
    def mounted(trial: Trial) -> None:
        _mounted(trial)
        assert size(trial.root) < ROOM / 2
        inflict(trial)

    return mounted


FAULTS = (
    Fault("full disk", ALL, _on_a_small_disk(_full)),
    Fault("out of inodes", ALL, _on_a_small_disk(_no_inodes)),
    Fault("read-only when it is asked for", ALL, _on_a_small_disk(_read_only)),
    Fault("read-only before the job starts", ALL, _on_a_small_disk(_read_only_before_the_job)),
)
