"""What a run's chain is doing: each job's state and reason, how far the training is, how long it will take.

Read from jobs.json, Slurm, links.json and metrics.jsonl; works with accounting and without.
"""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

from omr import recipe
from omr.cluster import slurm, submit
from omr.cluster.allocation.deadline import learned_margin
from omr.cluster.slurm import Queued
from omr.cluster.submit import Say
from omr.errors import OmrError, printable
from omr.run import checkpoints, frozen, metrics
from omr.run.chain_state import ChainState, LinkAttempt, Submitted, SubmittedJob
from omr.workspace import RunFolder

RECENT = 50  # steps that the speed is taken from
TAIL = 1 << 20  # bytes of the metrics that have them: a long run's whole file takes a second to read


@dataclass
class Row:
    """One job of the chain, in the words that a person reads."""

    key: str
    id: str
    state: str
    note: str = ""


@dataclass
class Status:
    """Everything that `make status` shows of one run."""

    title: str
    folder: Path
    rows: list[Row] = field(default_factory=list)
    steps: int = 0
    step: int = 0
    saved: int = 0
    loss: float | None = None
    step_seconds: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    jobs_needed: int | None = None
    final: bool = False
    story: list[str] = field(default_factory=list)
    note: str = ""

    @property
    def live(self) -> bool:
        """Is anything still queued or running?"""
        return any(row.state in slurm.LIVE for row in self.rows)


def of(
    run: recipe.Run,
    folder: RunFolder,
    limit_seconds: float | None = None,
    steps: Sequence[dict] | None = None,
    before: Status | None = None,
) -> Status:
    """The status of a run; `limit_seconds` is a job's time limit, for how many jobs are still needed.

    Whoever looks often gives the numbers of the `steps`, whose last ones are else read, and the status
    `before`, whose jobs then stand: Slurm is not asked.
    """
    found = Status(run.title, folder.root, steps=run.schedule.steps)
    found.final = (folder.final / "manifest.json").exists()
    # By name; whether they are whole is the next link's question, and costs a hash.
    found.saved = max(checkpoints.steps(folder.checkpoints), default=0)
    _speed(found, folder, metrics.read(folder.metrics, tail=TAIL) if steps is None else steps, limit_seconds)
    if before:
        found.rows, found.note = before.rows, before.note
    else:
        _jobs(found, folder)
    if folder.event_log.exists():
        lines = folder.event_log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
        found.story = [printable(line) for line in lines]  # an engine's last words are among them
    return found


def _speed(found: Status, folder: RunFolder, rows: Sequence[dict], limit_seconds: float | None) -> None:
    if not rows:
        return
    last = rows[-1]
    found.step, found.loss = last["step"], last.get("loss")
    found.step_seconds = metrics.median_step_seconds(rows[-RECENT:])
    if found.step_seconds is None:
        return
    tokens = last.get("tokens", last.get("global_valid_toks"))
    if tokens and found.step_seconds > 0:
        found.tokens_per_second = tokens / found.step_seconds
    found.seconds_left = max(0, found.steps - max(found.step, found.saved)) * found.step_seconds
    if limit_seconds:
        seen = ChainState.load(folder).save_seconds
        usable = limit_seconds - learned_margin(seen, limit_seconds)
        found.jobs_needed = ceil(found.seconds_left / usable) if usable > 0 else None


def _jobs(found: Status, folder: RunFolder) -> None:
    """Each job of the chain as Slurm knows it, and what an interrupted submission left."""
    records = submit.run_records(folder)
    if not any(record.exists() for record in records):
        found.note = "no chain was submitted"
    listed = [job for record in records for job in Submitted.load(record).jobs]
    attempts = ChainState.load(folder).attempts
    known: dict[str, Queued] = {}
    try:
        known = slurm.jobs([job.id for job in listed]) if listed else {}
    except OmrError as error:
        found.note = str(error)
    found.rows = [_row(job, known, [a for a in attempts if a.job == job.id]) for job in listed]
    left = [row for row in _held_jobs() if row.comment == str(folder.root)]
    found.rows += _interrupted(left, records, "the same command")


def _row(job: SubmittedJob, known: Mapping[str, Queued], attempts: Sequence[LinkAttempt]) -> Row:
    """A job of the chain; `known` is what Slurm says of all of them, `attempts` are the job's own starts."""
    came = "; ".join(_attempt(attempt) for attempt in attempts)
    queued = known.get(job.id)
    if queued is None:
        # Slurm has forgotten it, and there is no accounting: what it left is all that is known.
        return Row(job.key, job.id, "ENDED" if attempts or not known else "GONE", came)
    return Row(job.key, job.id, queued.state, "; ".join(filter(None, (_reason(queued), came))))


def _held_jobs() -> list[Queued]:
    """This user's held jobs; none where Slurm is not here, or does not answer."""
    with contextlib.suppress(OmrError):
        return [row for row in slurm.queue() if row.held] if slurm.available() else []
    return []


def _interrupted(held: Sequence[Queued], records: Collection[Path], command: str) -> list[Row]:
    """Those held jobs that no record names: their submission was killed before it wrote them down."""
    submissions = [Submitted.load(path) for path in records]
    recorded = {job.id for each in submissions for job in each.jobs}
    note = f"held, its submission was interrupted; {command} cancels it and submits anew"
    left = {row.job: row for row in held if row.job not in recorded}
    return [Row(row.name, job, row.state, note) for job, row in left.items()]


def _reason(row: Queued) -> str:
    """Why a job waits or how it ended, in Slurm's word, and what an array's tasks do; empty for neither."""
    reason = "" if row.reason in ("None", "") else row.reason
    return "; ".join(filter(None, (row.tasks, reason)))


def _attempt(attempt: LinkAttempt) -> str:
    to = "" if attempt.reached is None else f" to {attempt.reached}"
    return f"from step {attempt.start}{to}"


def table(rows: list[Row]) -> list[str]:
    """Jobs as a person reads them."""
    width = max((len(row.key) for row in rows), default=0)
    return [f"  {row.key:<{width}}  {row.id:<8} {row.state:<10} {row.note}".rstrip() for row in rows]


def lines(found: Status) -> list[str]:
    """The status as a person reads it."""
    shown = [f"{found.title}  ({found.folder})", *table(found.rows)]
    if found.note:
        shown.append(f"  {found.note}")
    share = 100 * found.step / found.steps
    facts = [f"step {found.step:,} of {found.steps:,} ({share:.0f}%), saved {found.saved:,}"]
    if found.loss is not None:
        facts.append(f"loss {found.loss:.4f}")
    if found.step_seconds:
        facts.append(f"{found.step_seconds:.2f} s a step")
    if found.tokens_per_second:
        facts.append(f"{found.tokens_per_second:,.0f} tokens/s")
    shown.append("  " + ", ".join(facts))
    if found.final:
        shown.append(f"  finished: {found.folder / 'final'}")
    elif found.seconds_left is not None:
        needed = f", {found.jobs_needed} more jobs of this length" if found.jobs_needed is not None else ""
        shown.append(f"  about {clock(found.seconds_left)} of training left at this speed{needed}")
    if not found.final and found.rows and not found.live:
        shown.append("  the chain is gone; make train goes on from the last checkpoint")
    return shown + [f"  {line}" for line in found.story]


def clock(seconds: float) -> str:
    """`2 d 03:05`, `3:05:09` or `5:09`."""
    days, rest = divmod(int(seconds), 86_400)
    hours, minutes = divmod(rest // 60, 60)
    if days:
        return f"{days} d {hours:02}:{minutes:02}"
    return f"{hours}:{minutes:02}:{rest % 60:02}" if hours else f"{minutes}:{rest % 60:02}"


def runs(root: Path, say: Say = print) -> list[tuple[recipe.Run, RunFolder]]:
    """Every run of the workspace that has a chain, also one that no link has begun yet.

    A damaged record is a line of its own; the other runs are none the worse for it.
    """
    found = []
    for folder in map(RunFolder, sorted({*_submitted(root), *_held(root)})):
        try:
            named = [run for record in submit.run_records(folder) if (run := Submitted.load(record).run)]
            if run := frozen.run_of(folder) or next(iter(named), None):
                found.append((run, folder))
        except OmrError as error:
            say(f"note: {error}")
    return found


def of_all(root: Path, limit_seconds: float | None, say: Say) -> list[Status]:
    """The status of every run that has a chain; a damaged one is a line."""
    found = []
    for run, folder in runs(root, say):
        try:
            found.append(of(run, folder, limit_seconds))
        except OmrError as error:
            say(f"note: {error}")
    return found


def _submitted(root: Path) -> list[Path]:
    """The folders of runs that have a chain, or an evaluation of their own."""
    return [path.parent for path in root.glob("runs/*/*/*jobs.json")]


def _held(root: Path) -> list[Path]:
    """Those of runs that have held jobs, which an interrupted first submission leaves without a jobs.json."""
    comments = {row.comment for row in _held_jobs()}
    return [path for path in root.glob("runs/*/*") if str(path) in comments]


def stages(root: Path) -> list[Row]:
    """Jobs of plain stages (data, model, image) that wait, run or have failed, as Slurm still knows them."""
    records = sorted(root.glob("logs/*.jobs.json"))
    listed = [job for path in records for job in Submitted.load(path).jobs]
    try:
        known = slurm.jobs([job.id for job in listed]) if listed else {}
    except OmrError:
        return []  # each run's status says so
    rows = [(job.key, known[job.id]) for job in listed if job.id in known]
    shown = [Row(key, row.job, row.state, _reason(row)) for key, row in rows if row.state != "COMPLETED"]
    left = [row for row in _held_jobs() if Path(row.comment).parent == root / "logs"]
    return shown + _interrupted(left, records, "the same command")


def logs(folder: RunFolder) -> list[Path]:
    """The run's log files, the one last written to at the end."""
    there = [p for p in folder.logs.glob("*.log") if p.is_file()] if folder.logs.is_dir() else []
    return sorted(there, key=lambda p: p.stat().st_mtime)
