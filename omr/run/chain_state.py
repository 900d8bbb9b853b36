"""What the jobs of a chain know of each other: jobs.json and links.json in the run's folder.

jobs.json has what was submitted (`Submitted`); links.json has each start of a link and what it left
(`ChainState`). A link that left no new checkpoint is weighed by `why_to_stop`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omr import records
from omr.files import Json, read_json, write_json
from omr.manifest import Fingerprint
from omr.recipe import Run
from omr.workspace import RunFolder

MOST_LINKS, MOST_STARTS = 2, 6  # in a row without a new checkpoint: the chain is stopped


@dataclass
class LinkAttempt:
    """One start of one link. Steps are optimiser steps, times are seconds since the epoch.

    A start that was killed has neither `reached` nor what follows it; one that never came to train has
    `reached` alone.
    """

    job: str  # Slurm's id
    start: int  # the step that it trained on from
    restart: int = 0  # how often Slurm had requeued the job before
    began: float | None = None
    reached: int | None = None  # the newest whole step when it ended
    code: int | None = None  # the engine's exit code
    ended: float | None = None
    why: list[str] | None = None  # why it was asked to stop

    def as_json(self) -> Json:
        """Its entry in links.json."""
        values = {
            "job": self.job,
            "restart": self.restart,
            "began": self.began,
            "from": self.start,
            "to": self.reached,
            "code": self.code,
            "ended": self.ended,
            "why": self.why,
        }
        return {key: value for key, value in values.items() if value is not None}

    @classmethod
    def from_json(cls, entry: Json) -> "LinkAttempt":
        """What `as_json` gave; a ValueError for anything else."""
        fields = {"from": "start", "to": "reached"}
        return records.of(cls, {fields.get(key, key): value for key, value in entry.items()})


@dataclass
class ChainState:
    """links.json. Load it, change it and save it again: each save is atomic, and the lease holder's alone."""

    chain: str | None = None  # the submission whose links `attempts` are of
    attempts: list[LinkAttempt] = field(default_factory=list)
    data: Fingerprint | None = None  # fingerprint of the training data when it was last known to be right
    save_seconds: float | None = None  # the longest save seen
    bad_nodes: list[str] = field(default_factory=list)  # that links found unfit

    @classmethod
    def load(cls, folder: RunFolder) -> "ChainState":
        """The state of a run's chain; an empty one where no link has begun. Damage is an OmrError."""
        values = read_json(folder.links_json) if folder.links_json.exists() else {}
        with records.checked(folder.links_json, "remove it, and the chain goes on from its checkpoints"):
            return cls(
                records.of(str | None, values.get("chain"), "chain"),
                [LinkAttempt.from_json(each) for each in records.of(list[Json], values.get("attempts", []))],
                Fingerprint.from_json(values["data"]) if "data" in values else None,
                records.of(float | None, values.get("save_seconds"), "save_seconds"),
                records.of(list[str], values.get("bad_nodes", []), "bad_nodes"),
            )

    def save(self, folder: RunFolder) -> None:
        """Write links.json; what is not known is left out."""
        values = {
            "data": self.data and self.data.as_json(),
            "chain": self.chain,
            "attempts": [attempt.as_json() for attempt in self.attempts],
            "save_seconds": self.save_seconds,
            "bad_nodes": self.bad_nodes,
        }
        write_json(folder.links_json, {key: v for key, v in values.items() if v not in (None, [])})


@dataclass(frozen=True)
class SubmittedJob:
    """One job of a submission."""

    key: str  # `train-1`, `convert`
    id: str  # Slurm's
    name: str = ""
    after: tuple[tuple[str, str], ...] = ()  # (kind, key) of the jobs it waits for
    log: str = ""

    def as_json(self) -> Json:
        """Its entry in jobs.json."""
        after = [list(need) for need in self.after]
        return {"key": self.key, "id": self.id, "name": self.name, "after": after, "log": self.log}

    @classmethod
    def from_json(cls, entry: Json) -> "SubmittedJob":
        """What `as_json` gave; a ValueError for anything else. Its id becomes a word of Slurm's commands."""
        job = records.of(cls, entry, "the job")
        if not re.fullmatch("[0-9]+", job.id):
            raise records.Odd(f"{job.id!r} is no job id of Slurm's")
        return job


@dataclass(frozen=True)
class Submitted:
    """jobs.json: the newest submission of a run (or of a plain stage), and those before it."""

    chain: str | None = None  # names the submission; None: nothing was submitted
    submitted: str = ""  # when: `2026-01-31 18:00:00`
    jobs: tuple[SubmittedJob, ...] = ()  # in the order of submission
    command: str = ""
    run: Run | None = None  # what make status reads before the first link has frozen it; None: a plain stage
    earlier: tuple["Submitted", ...] = ()  # without their command and run
    released: bool = True  # whether its jobs were let go: False where its submission was killed before that

    @classmethod
    def load(cls, path: Path) -> "Submitted":
        """What a jobs.json says; an empty submission where there is none. Damage is an OmrError."""
        with records.checked(path, "remove it; the jobs that live are known by their comment"):
            return cls.from_json(read_json(path) if path.exists() else {})

    @classmethod
    def from_json(cls, values: Json) -> "Submitted":
        """What `save` wrote; a ValueError for anything else."""
        run = values.get("recipe")
        return cls(
            records.of(str | None, values.get("chain"), "chain"),
            records.of(str, values.get("submitted", ""), "submitted"),
            tuple(SubmittedJob.from_json(each) for each in records.of(list[Json], values.get("jobs", []))),
            records.of(str, values.get("command", ""), "command"),
            Run.from_dict(run) if run else None,
            tuple(cls.from_json(each) for each in records.of(list[Json], values.get("earlier", []))),
            records.of(bool, values.get("released", True), "released"),
        )

    def save(self, path: Path) -> None:
        """Write jobs.json."""
        write_json(
            path,
            {
                "chain": self.chain,
                "submitted": self.submitted,
                **({} if self.released else {"released": False}),
                "command": self.command,
                "recipe": self.run and self.run.as_dict(),
                "jobs": [job.as_json() for job in self.jobs],
                "earlier": [
                    {
                        "chain": each.chain,
                        "submitted": each.submitted,
                        "jobs": [job.as_json() for job in each.jobs],
                    }
                    for each in self.earlier
                ],
            },
        )


def attempts_of_chain(folder: RunFolder) -> list[LinkAttempt]:
    """The starts of the newest submission's links; those of an earlier one do not count against it."""
    state = ChainState.load(folder)
    return state.attempts if state.chain == Submitted.load(folder.jobs_json).chain else []


def attempts_without_checkpoint(attempts: Sequence[LinkAttempt], newest: int) -> list[LinkAttempt]:
    """The last attempts in a row that left no new checkpoint; `newest` is the newest whole step.

    An attempt that was killed could not write what it reached: the step from which the next one started,
    or `newest`, tells.
    """
    found, later = [], newest
    for attempt in reversed(attempts):
        if (later if attempt.reached is None else attempt.reached) > attempt.start:
            break
        found, later = [attempt, *found], attempt.start
    return found


def why_to_stop(attempts: Sequence[LinkAttempt], newest: int, starting: str | None = None) -> str | None:
    """Why the chain should be stopped, in a few words; None while it may go on.

    A requeued job (a lost node, a preemption) starts more than once and is one link; that Slurm has to start
    the job `starting` again is not yet its failure. `newest` is the newest whole step.
    """
    last = attempts_without_checkpoint(attempts, newest)
    links = {attempt.job for attempt in last} - {starting}
    if len(links) >= MOST_LINKS:
        return f"{len(links)} links in a row left no new checkpoint"
    return f"{len(last)} starts in a row left no new checkpoint" if len(last) >= MOST_STARTS else None
