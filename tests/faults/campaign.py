"""A campaign: several trials at a time, the outcome of each written down at once."""

import json
import random
import subprocess
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from ..cluster.slurm import cluster as slurm
from ..cluster.slurm.cluster import Cluster
from . import table, undisturbed
from .families import clocks
from .families.base import Fault
from .plan import Planned, plan
from .proof import Outcome, finished, judge
from .stages import STAGES
from .trial import Missed, Trial
from .user import Refused

NODES = 3  # trials at a time: each has a job, and each node one core
Say = Callable[[str], None]


def missing() -> str:
    """What this machine lacks for a campaign, or an empty string."""
    return slurm.missing() or clocks.missing()


def outcomes(record: Path) -> list[Outcome]:
    """What a campaign's record has, the newest of each number; a line that a kill cut off is passed over."""
    found = {}
    for line in record.read_text().splitlines() if record.exists() else ():
        try:
            outcome = Outcome(**json.loads(line))
        except (ValueError, TypeError):
            continue
        found[outcome.number] = outcome
    return [found[number] for number in sorted(found)]


def run(seed: int, count: int, record: Path, say: Say) -> list[Outcome]:
    """Make the trials that `record` does not have yet; returns the outcomes of all of them.

    A number for which the record has another trial, of an earlier plan, is made again.
    """
    known = {(each.number, each.family, each.fault, each.stage) for each in outcomes(record)}
    todo = [p for p in plan(seed, count) if (p.number, p.family, p.fault.name, p.stage) not in known]
    if todo:
        record.parent.mkdir(parents=True, exist_ok=True)
        if record.exists() and not record.read_bytes().endswith(b"\n"):
            with record.open("a") as lines:  # a kill cut the last one off
                lines.write("\n")
        # Below /tmp, because Slurm's paths are short.
        with tempfile.TemporaryDirectory(prefix="omr-faults-", ignore_cleanup_errors=True) as folder:
            cluster = Cluster(Path(folder) / "s", nodes=NODES, cpus=1)
            cluster.start()
            try:
                _make(cluster, Path(folder), todo, record, say)
            finally:
                cluster.stop()
    return [outcome for outcome in outcomes(record) if outcome.number <= count]


def _make(cluster: Cluster, folder: Path, todo: list[Planned], record: Path, say: Say) -> None:
    calm = undisturbed.make(cluster, folder / "undisturbed", say)
    writing = threading.Lock()

    def one(planned: Planned) -> None:
        # No trial's path begins with another's: jobs are found by it.
        outcome = _try(cluster, calm, folder / f"t{planned.number:05}", planned)
        with writing, record.open("a") as lines:
            lines.write(json.dumps(asdict(outcome)) + "\n")
        say(table.line(outcome))

    pool = ThreadPoolExecutor(NODES)
    try:
        for done in [pool.submit(one, planned) for planned in todo]:
            done.result()
    finally:  # interrupted: what is under way is not waited for, and is made again by the next campaign
        pool.shutdown(wait=False, cancel_futures=True)


def _try(cluster: Cluster, calm: undisturbed.Undisturbed, root: Path, planned: Planned) -> Outcome:
    """A trial; once more, and sooner, where the stage was over before the fault could strike."""
    outcome = Outcome(planned.number, planned.family, planned.fault.name, planned.stage)
    for sooner in (1.0, 0.6, 0.3, 0.1):
        attempt = Trial(
            cluster, calm, root, STAGES[planned.stage], random.Random(planned.seed), sooner=sooner
        )
        try:
            return _disturb(attempt, outcome, planned.fault)
        except Missed:
            continue
        finally:
            attempt.clean()
    outcome.faults.append("the stage was always over before the fault")
    return outcome


def _disturb(trial: Trial, outcome: Outcome, fault: Fault) -> Outcome:
    """The whole trial; what fails in it is a fault of the outcome. Raises Missed where it came too late."""
    try:
        trial.undisturbed.copy(trial.root, trial.stage.name)
        try:
            fault.inflict(trial)
        finally:
            for mend in reversed(trial.undo):
                mend()
        outcome.how = trial.how
        outcome.noted = trial.noticed is not None
        if trial.noticed and trial.struck:
            outcome.detected = max(0.0, trial.noticed - trial.struck)
        judge(trial, outcome, finished(trial.root))
    except (AssertionError, OSError, ValueError, subprocess.SubprocessError, Refused) as error:
        outcome.faults.append(f"{type(error).__name__}: {error}"[:600])
        outcome.detail, outcome.how = trial.user.said()[-2500:], trial.how
    return outcome
