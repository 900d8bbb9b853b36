"""A graph of jobs goes to Slurm: whole or not at all, written down before any of its jobs can start.

Every job is submitted held. When all of a graph are in the queue, their ids are written to its record, and
one `scontrol release` lets them start. A submission that was killed in between leaves held jobs that no
record names, or one that does not say that they were released: they never ran, and the next submission of
the same run cancels them.
"""

import contextlib
import secrets
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from omr import manifest, recipe
from omr.cluster import job_environment, slurm
from omr.cluster.jobs import Job, picture
from omr.cluster.slurm import Queued
from omr.errors import OmrError
from omr.run.chain_state import Submitted, SubmittedJob
from omr.run.events import log_event
from omr.training.nemo_rl.engine_file import EngineFile
from omr.workspace import RunFolder

Say = Callable[[str], None]


@dataclass(frozen=True)
class Submission:
    """How a training is submitted."""

    links: int  # of the chain: NUM_TRAINING_JOBS
    evaluate: bool = False  # at the chain's end
    launcher: str = "sbatch"  # or ns
    dry_run: bool = False  # say what would be submitted and written


@dataclass(frozen=True)
class JobGraph:
    """Jobs that are submitted together."""

    jobs: Sequence[Job]
    record: Path  # where their ids are written: one of a run's records, or logs/<stage>.jobs.json
    run: recipe.Run | None = None  # that they train or evaluate
    engine_file: EngineFile | None = None  # what a training's engine reads


def submit(graph: JobGraph) -> dict[str, str]:
    """Submit a graph, write it down and let it go; returns the Slurm ids by key."""
    ids = submit_held(graph)
    write_record(graph, ids)
    release([graph.record], ids.values())
    return ids


def submit_held(graph: JobGraph) -> dict[str, str]:
    """Submit the jobs, each held; returns their ids by key. If one is refused, the others are cancelled."""
    ids: dict[str, str] = {}
    try:
        for job in graph.jobs:
            if job.log:
                job.log.parent.mkdir(parents=True, exist_ok=True)
            ids[job.key] = slurm.sbatch(job.sbatch_command(ids), job_environment.environment(job))
    except (OmrError, KeyboardInterrupt) as error:
        slurm.cancel([*ids.values(), *(_unnamed(graph) if isinstance(error, slurm.NoJobId) else [])])
        undone = f"; the {len(ids)} jobs before it were cancelled" if ids else ""
        raise OmrError(f"submitting {graph.jobs[len(ids)].key}: {error}{undone}") from None
    return ids


def _unnamed(graph: JobGraph) -> list[str]:
    """Jobs of the graph whose id sbatch did not say, found by their comment; none where Slurm is away."""
    with contextlib.suppress(OmrError):  # what cannot be asked for now, the next submission finds
        comments = {job.comment for job in graph.jobs}
        return [row.job for each in comments for row in interrupted(each, [graph.record])]
    return []


def write_record(graph: JobGraph, ids: Mapping[str, str]) -> None:
    """Write the ids to the graph's record, after those of earlier submissions, and to a run's event log."""
    before = Submitted.load(graph.record)
    submitted = Submitted(
        secrets.token_hex(4),
        f"{datetime.now():%Y-%m-%d %H:%M:%S}",
        tuple(SubmittedJob(job.key, ids[job.key], job.name, job.after, str(job.log)) for job in graph.jobs),
        manifest.command(),
        graph.run,
        (*before.earlier, before) if before.chain else (),
        released=False,
    )
    submitted.save(graph.record)
    if graph.run:
        line = f"chain {submitted.chain} submitted: jobs {', '.join(ids.values())}"
        log_event(RunFolder(graph.record.parent), line)


def release(records: Sequence[Path], ids: Collection[str]) -> None:
    """Let the held jobs of these records start, and write that down there.

    An OmrError where Slurm refuses that for one of them, and all are cancelled.
    """
    try:
        slurm.release(ids)
    except (OmrError, KeyboardInterrupt) as error:
        slurm.cancel(ids)
        raise OmrError(
            f"releasing jobs {', '.join(ids)}: {error}; all were cancelled, run the same command again"
        ) from None
    for record in records:
        replace(Submitted.load(record), released=True).save(record)


def eval_record(folder: RunFolder) -> Path:
    """Where the Slurm ids of a run's evaluation are written, when it is not the end of a chain."""
    return folder.root / "eval.jobs.json"


def run_records(folder: RunFolder) -> list[Path]:
    """Where the ids of a run's jobs are written: those of its chain, and of its evaluation."""
    return [folder.jobs_json, eval_record(folder)]


def interrupted(comment: str, records: Sequence[Path]) -> list[Queued]:
    """Held jobs with this comment that no record says were let go: their submission was cut off."""
    newest = [Submitted.load(record) for record in records]
    submissions = [each for submitted in newest for each in (submitted, *submitted.earlier)]
    recorded = {job.id for each in submissions if each.released for job in each.jobs}
    live = slurm.live_with_comment(comment)
    return [row for row in live if row.held and row.job not in recorded]


def cancel_interrupted(comment: str, records: Sequence[Path], say: Say) -> None:
    """Cancel what an interrupted submission left, before a new one; the caller holds its lock."""
    if left := interrupted(comment, records):
        ids = list(dict.fromkeys(row.job for row in left))
        slurm.cancel(ids)
        say(f"note: cancelled jobs {', '.join(ids)}, which an interrupted submission left held; none had run")


def show(graph: JobGraph, say: Say) -> None:
    """DRY_RUN: the graph, every command and file as it would be; ids are `<key>`, and secrets are names."""
    say(picture(graph.jobs))
    ids = {job.key: f"<{job.key}>" for job in graph.jobs}
    shared = dict(set.intersection(*({*job.env.items()} for job in graph.jobs)))
    say("\nevery job gets")
    for name in sorted(shared):
        say(f"  {name}={shlex.quote(str(shared[name]))}")
    for job in graph.jobs:
        own = [
            f"{name}={shlex.quote(str(value))}"
            for name, value in sorted(job.env.items())
            if name not in shared
        ]
        say("\n" + " ".join([*own, shlex.join(job.sbatch_command(ids))]))
    say("\n" + " ".join(slurm.release_command(ids.values())))
    if graph.engine_file:
        say(f"\n{graph.engine_file.path}:\n{graph.engine_file.text}")
