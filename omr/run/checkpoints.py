"""Checkpoints of the one-box engine: written aside, synced, listed, renamed; proved before they are used.

    checkpoints/step_<n>/       whole: its list complete.json was written last
    checkpoints/tmp_step_<n>/   was being saved when the process ended
    checkpoints/old_step_<n>/   was being replaced
    checkpoints/damaged_step_<n>/, redo_step_<n>/   set aside by `mend`, which says so

The list has each part's size and sha256, the step, and the identity of the run, so that a part that is cut
off, missing or of another run is never resumed from. Neither torch nor numpy is needed to judge a checkpoint.
"""

import contextlib
import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from omr.files import read_json, settle_tree, sha256, sync, write_json
from omr.recipe import Run
from omr.run import lease, sealed
from omr.run.sealed import steps
from omr.workspace import RunFolder

LIST = "complete.json"
SET_ASIDE = ("damaged", "redo")


def run_identity(request: dict) -> str:
    """Hex digest of what decides a run's weights: the `request` of its run.json."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def _frozen(checkpoints: Path) -> dict | None:
    """The request of the run whose folder this is; None where run.json is not there."""
    path = checkpoints.parent / "run.json"
    return read_json(path)["request"] if path.exists() else None


@contextlib.contextmanager
def saving(checkpoints: Path, step: int, identity: str) -> Iterator[Path]:
    """Yield the empty folder tmp_step_<n>; on success it is listed, synced and becomes step_<n>.

    Raises lease.Lost, and touches nothing more, where another job has taken over the run.
    """
    final, aside, old = (checkpoints / f"{word}step_{step}" for word in ("", "tmp_", "old_"))
    lease.check()
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        names = sorted(path.name for path in aside.iterdir())
        parts = {
            name: {"size": (aside / name).stat().st_size, "sha256": sha256(aside / name)} for name in names
        }
        write_json(aside / LIST, {"run": identity, "step": step, "files": parts})
        settle_tree(aside)
        lease.check()
        if final.exists():
            shutil.rmtree(old, ignore_errors=True)
            final.rename(old)
        aside.rename(final)
        sync(checkpoints)
    except lease.Lost:
        raise
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def damage(folder: Path, identity: str | None = None) -> str | None:
    """What is wrong with a checkpoint, in a few words; None when it is whole (and of the run `identity`)."""
    try:
        listed = json.loads((folder / LIST).read_text(encoding="utf-8"))
        parts = {name: (facts["size"], facts["sha256"]) for name, facts in listed["files"].items()}
        run, step = listed["run"], listed["step"]
    except FileNotFoundError:
        return f"{LIST} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{LIST} is damaged"
    if folder.name != f"step_{step}":
        return f"it is step {step} under another name"
    if identity and run != identity:
        return "it belongs to another run"
    for name, (size, digest) in parts.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes of {size}"
        if _digest(path, size, path.stat().st_mtime_ns) != digest:
            return f"{name} has other content than was saved"
    extra = {path.name for path in folder.iterdir()} - {*parts, LIST}
    return f"{min(extra)} does not belong to it" if extra else None


@functools.lru_cache(maxsize=4096)
def _digest(path: Path, size: int, mtime: int) -> str:
    """A file's hash, once a process: a link looks at gigabytes of checkpoints several times."""
    return sha256(path)


def whole(checkpoints: Path) -> list[int]:
    """Steps of the whole checkpoints of the run whose folder this is."""
    request = _frozen(checkpoints)
    identity = run_identity(request) if request else None
    return [n for n in steps(checkpoints) if damage(checkpoints / f"step_{n}", identity) is None]


def missing(checkpoints: Path, request: dict, there: list[int]) -> list[int]:
    """Averaged steps that are neither among the whole checkpoints nor converted already."""
    converted = checkpoints.parent / "hf"
    return [
        n
        for n in request["recipe"]["schedule"]["averaged"]
        if n not in there and not (converted / f"step_{n}" / "manifest.json").exists()
    ]


def complete(checkpoints: Path) -> bool:
    """Whether the training is done: every averaged step, which the last one is, is whole or converted."""
    request = _frozen(checkpoints)
    return request is not None and not missing(checkpoints, request, whole(checkpoints))


def mend(checkpoints: Path) -> list[str]:
    """Leave as the highest number the checkpoint to go on from; say what was done, a line each.

    A damaged or foreign one is set aside, so the one before it counts. An averaged step that is lost has to
    be trained again: the checkpoints after it are set aside too.
    """
    if not checkpoints.is_dir():
        return []
    said = []
    for path in sorted(checkpoints.glob("old_step_*")):
        final = checkpoints / path.name.removeprefix("old_")
        if final.exists():
            shutil.rmtree(path)
        else:
            path.rename(final)
            said.append(f"{final.name} was being replaced when the process ended: the old one is back")
    for path in sorted(checkpoints.glob("tmp_step_*")):
        shutil.rmtree(path)
        said.append(f"{path.name} was never finished: removed")
    request = _frozen(checkpoints)
    identity = run_identity(request) if request else None
    there = []
    for number in steps(checkpoints):
        if fault := damage(checkpoints / f"step_{number}", identity):
            aside = _set_aside(checkpoints, number, "damaged")
            said.append(
                f"step_{number} is damaged ({fault}): set aside as {aside}, the one before it is used"
            )
        else:
            there.append(number)
    lost = missing(checkpoints, request, there) if request else []
    for number in [n for n in there if lost and n > min(lost)]:
        aside = _set_aside(checkpoints, number, "redo")
        said.append(f"step_{min(lost)} has to be trained again: step_{number} is set aside as {aside}")
    return said


def _set_aside(checkpoints: Path, step: int, word: str) -> str:
    aside = checkpoints / f"{word}_step_{step}"
    shutil.rmtree(aside, ignore_errors=True)
    (checkpoints / f"step_{step}").rename(aside)
    return aside.name


def tidy(checkpoints: Path, keep: Callable[[int], bool]) -> list[int]:
    """Remove what a newer checkpoint made superfluous: saves that are not to be kept, what was set aside.

    The newest two always stay. Returns the steps that were removed.
    """
    there = steps(checkpoints)
    gone = [n for n in there[:-2] if not keep(n)]
    for number in gone:
        # Out of its name first: half removed it would pass for a damaged one.
        shutil.rmtree(checkpoints / _set_aside(checkpoints, number, "redo"), ignore_errors=True)
    for word in SET_ASIDE:
        for path in checkpoints.glob(f"{word}_step_*"):
            if there and int(path.name.rpartition("_")[2]) <= there[-1]:
                shutil.rmtree(path, ignore_errors=True)
    return gone


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a run, whichever engine writes them. Steps are optimiser steps."""

    folder: RunFolder
    engine: str

    def whole(self) -> list[int]:
        """Steps of the whole checkpoints of this run, in order."""
        room = sealed if self.engine == "nemo-rl" else whole_module()
        return room.whole(self.folder.checkpoints)

    def mend(self) -> list[str]:
        """Leave as the highest number the checkpoint to go on from; say what was done, a line each."""
        room = sealed if self.engine == "nemo-rl" else whole_module()
        return room.mend(self.folder.checkpoints)

    @property
    def engine_tidies(self) -> bool:
        """Whether the engine itself removes the saves that it no longer needs."""
        return self.engine != "nemo-rl"

    def complete(self, run: Run, whole: Sequence[int]) -> bool:
        """Whether the last step and every averaged one are whole or converted, or final/ is there."""
        if (self.folder.final / "manifest.json").exists():
            return True
        return {*run.schedule.averaged, run.schedule.steps} <= {*whole, *self._converted(run)}

    def lost(self, run: Run, whole: Sequence[int]) -> list[int]:
        """Averaged steps that the training is past and that are neither whole nor converted."""
        there, newest = {*whole, *self._converted(run)}, max(whole, default=0)
        return [n for n in run.schedule.averaged if n <= newest and n not in there]

    def tidy(self, run: Run, whole: Sequence[int]) -> None:
        """Remove deadline checkpoints that are no longer needed: neither averaged, nor of the newest two."""
        keep = {*run.schedule.averaged, *sorted(whole)[-2:]}
        for step in whole:
            if step not in keep and step % run.schedule.save_period:
                # Out of its name first: half removed it would pass for a damaged one.
                aside = self.folder.checkpoints / f".gone_step_{step}"
                self.folder.checkpoint(step).rename(aside)
        for aside in self.folder.checkpoints.glob(".gone_step_*"):
            shutil.rmtree(aside, ignore_errors=True)

    def _converted(self, run: Run) -> set[int]:
        return {n for n in run.schedule.averaged if (self.folder.hf_step(n) / "manifest.json").exists()}


def whole_module() -> object:
    import sys

    return sys.modules[__name__]
