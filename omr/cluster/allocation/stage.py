"""A plain stage inside its job: convert, average, eval, data, model."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from omr.cluster.allocation.attempt import Attempt
from omr.run.events import log_event
from omr.workspace import RunFolder


def check_complete(attempt: Attempt) -> int:
    """0 if the training is complete; else 1, and the event log says how far it is."""
    whole = attempt.checkpoints.whole()
    if attempt.checkpoints.complete(attempt.run, whole):
        return 0
    steps = attempt.run.schedule.steps
    line = f"the training stands at step {max(whole, default=0)} of {steps}; make train goes on"
    print(line)
    if os.environ.get("SLURM_ARRAY_TASK_ID", "0") == "0":  # one task of the array speaks for all
        log_event(attempt.folder, f"convert, job {attempt.job}: {line}")
    return 1


def run_stage(stage: str, command: Sequence[str]) -> int:
    """Run a stage's step to its end and return its exit code; a failure is written to the run's event log."""
    code = subprocess.run(command).returncode
    if code and (root := os.environ.get("RUN_DIR")):
        job = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID")
        log_event(
            RunFolder(Path(root)), f"{stage}, job {job}: failed with exit code {code}; its log says why"
        )
    return code
