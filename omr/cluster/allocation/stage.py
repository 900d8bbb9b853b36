"""A plain stage inside its job: convert, average, eval, data, model."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from omr.cluster import submit
from omr.cluster.allocation.attempt import Attempt
from omr.run import notify
from omr.run.chain_state import Submitted
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
        attempt.tell("stopped", f"its links are used up: {line}")
    return 1


def run_stage(stage: str, command: Sequence[str]) -> int:
    """Run a stage's step to its end and return its exit code; a failure is written to the run's event log."""
    code = subprocess.run(command).returncode
    if root := os.environ.get("RUN_DIR"):
        folder = RunFolder(Path(root))
        job = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID") or "?"
        if code:
            log_event(folder, f"{stage}, job {job}: failed with exit code {code}; its log says why")
        _tell(folder, stage, job, code)
    return code


def _tell(folder: RunFolder, stage: str, job: str, code: int) -> None:
    """Tell NOTIFY where the chain has ended with this job: its last one, or one that failed."""
    records = [Submitted.load(path) for path in submit.run_records(folder)]
    record = next((each for each in records if job in [other.id for other in each.jobs]), None)
    if record is None or not (code or job == record.jobs[-1].id):
        return
    run = f"{folder.root.parent.name} {folder.root.name}"
    if code:
        title, text, where = (
            f"{run} stopped",
            f"{stage} failed with exit code {code} (job {job})",
            folder.logs,
        )
    else:
        title, text, where = f"{run} finished", f"its last job {job} is done", folder.final
    notify.tell(folder, title, f"{title}: {text}", where, record.chain)
