"""What a run's chain is doing: each job's state and reason, how far the training is, how long it will take.

Read from jobs.json, Slurm, links.json and metrics.jsonl; works with accounting and without.
"""

import itertools
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

from omr import recipe
from omr.cluster import slurm, supervise
from omr.errors import OmrError
from omr.files import read_json
from omr.run import checkpoints, metrics
from omr.run.chain_state import ChainState, LinkAttempt, Submitted
from omr.workspace import RunFolder

RECENT = 50  # steps that the speed is taken from


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


def of(run: recipe.Run, folder: RunFolder, limit_seconds: float | None = None) -> Status:
    """The status of a run; `limit_seconds` is a job's time limit, for how many jobs are still needed."""
    found = Status(run.title, folder.root, steps=run.schedule.steps)
    found.final = (folder.final / "manifest.json").exists()
    # By name; whether they are whole is the next link's question, and costs a hash.
    found.saved = max(checkpoints.steps(folder.checkpoints), default=0)
    _speed(found, folder, limit_seconds)
    _jobs(found, folder)
    if folder.event_log.exists():
        found.story = folder.event_log.read_text().splitlines()[-5:]
    return found


def _speed(found: Status, folder: RunFolder, limit_seconds: float | None) -> None:
    rows = metrics.read(folder.metrics)
    if not rows:
        return
    last = rows[-1]
    found.step, found.loss = last["step"], last.get("loss")
    recent = [row for row in rows if "time" in row][-RECENT:]
    # A new link begins with a long gap, which is no step.
    gaps = sorted(b["time"] - a["time"] for a, b in itertools.pairwise(recent))
    if not gaps:
        return
    found.step_seconds = gaps[len(gaps) // 2]
    tokens = last.get("tokens", last.get("global_valid_toks"))
    if tokens and found.step_seconds > 0:
        found.tokens_per_second = tokens / found.step_seconds
    found.seconds_left = max(0, found.steps - max(found.step, found.saved)) * found.step_seconds
    if limit_seconds:
        seen = ChainState.load(folder).save_seconds
        usable = limit_seconds - supervise.learned_margin(seen, limit_seconds)
        found.jobs_needed = ceil(found.seconds_left / usable) if usable > 0 else None


def _jobs(found: Status, folder: RunFolder) -> None:
    if not folder.jobs_json.exists():
        found.note = "no chain was submitted"
        return
    listed = Submitted.load(folder.jobs_json).jobs
    try:
        known = slurm.jobs([job.id for job in listed])
    except OmrError as error:
        known, found.note = {}, str(error)
    attempts = ChainState.load(folder).attempts
    for job in listed:
        row = known.get(job.id)
        mine = [a for a in attempts if a.job == job.id]
        came = "; ".join(_attempt(a) for a in mine)
        if row is None:
            # Slurm has forgotten it, and there is no accounting: what it left is all that is known.
            state = "ENDED" if mine or not known else "GONE"
            found.rows.append(Row(job.key, job.id, state, came))
        else:
            reason = "" if row.reason in ("None", "") else row.reason
            found.rows.append(Row(job.key, job.id, row.state, "; ".join(filter(None, (reason, came)))))


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


def runs(root: Path) -> list[tuple[recipe.Run, RunFolder]]:
    """Every run of the workspace that has a chain, also one that no link has begun yet."""
    found = []
    for path in sorted(root.glob("runs/*/*/jobs.json")):
        folder = RunFolder(path.parent)
        frozen = read_json(folder.run_json)["request"]["recipe"] if folder.run_json.exists() else None
        if run := recipe.Run.from_dict(frozen) if frozen else Submitted.load(path).run:
            found.append((run, folder))
    return found


def stages(root: Path) -> list[Row]:
    """Jobs of plain stages (data, model, image) that wait, run or have failed, as Slurm still knows them."""
    listed = [job for path in sorted(root.glob("logs/*.jobs.json")) for job in Submitted.load(path).jobs]
    try:
        known = slurm.jobs([job.id for job in listed]) if listed else {}
    except OmrError:
        return []  # each run's status says so
    rows = [(job.key, known[job.id]) for job in listed if job.id in known]
    return [
        Row(key, row.job, row.state, "" if row.reason in ("None", "") else row.reason)
        for key, row in rows
        if row.state != "COMPLETED"
    ]


def logs(folder: RunFolder) -> list[Path]:
    """The run's log files, the one last written to at the end."""
    there = [p for p in folder.logs.glob("*.log") if p.is_file()] if folder.logs.is_dir() else []
    return sorted(there, key=lambda p: p.stat().st_mtime)
