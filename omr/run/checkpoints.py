"""A run's checkpoints, whichever engine writes them: listed when saved, proved before they are used.

    checkpoints/step_<n>/       whole: the list of its files was written last
    checkpoints/tmp_step_<n>/   was being saved when the process ended
    checkpoints/old_step_<n>/   was being replaced
    checkpoints/damaged_step_<n>/, redo_step_<n>/   set aside by `mend`, which says so

The list has the size and a hash of every file, and the identity of the run. A checkpoint that is cut off,
incomplete or of another run is never resumed from. `FORMATS` has what differs between the engines: the
one-box engine saves by `saving`; NeMo-RL, which renames without a sync and resumes from the highest number,
whole or not, has its checkpoints sealed by omr/training/nemo_rl/driver.py while they are still called tmp.

Standard library alone: the driver imports this in NeMo-RL's own environment.
"""

import contextlib
import functools
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from omr import records
from omr.files import Json, digest_of_ends, read_json, settle_tree, sha256, sync, write_json
from omr.recipe import PINNED, Run
from omr.run import lease
from omr.run.nemo_rl_version import PINNED_VERSION
from omr.workspace import RunFolder

# Not FORCE=1, which would remove the checkpoints with it.
ANEW = "remove it, and the same make train goes on from the checkpoints"


@dataclass(frozen=True)
class Format:
    """How an engine's checkpoints are listed and mended."""

    listing: str  # name of the list within the checkpoint
    hashed_by: Callable[[Path], str]
    hash_key: str  # what the list calls a file's hash
    exact: bool  # a file that the list does not have is damage
    parts: tuple[
        str, ...
    ] = ()  # where there is no list at all, these must be there; none named: it is damage
    redoes: bool = False  # sets aside what follows an averaged step that is lost, to have it trained again


FORMATS = {
    "trl": Format("complete.json", sha256, "sha256", exact=True, redoes=True),
    # Terabytes: large files by their ends. A checkpoint that our driver did not write has no list.
    "nemo-rl": Format(
        "omr_seal.json",
        digest_of_ends,
        "digest",
        exact=False,
        parts=PINNED_VERSION.parts,
    ),
}


def run_identity(request: Json) -> str:
    """Hex digest of what decides a run's weights: the `request` of its run.json.

    An edition counts from the second on: checkpoints of runs that began before there were any stay theirs.
    """
    decided = dict(request.get("recipe") or {})
    if decided.get("edition") == PINNED:
        del decided["edition"]
        request = {**request, "recipe": decided}
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def steps(folder: Path) -> list[int]:
    """Numbers of the folders called step_<n> below `folder`, in order, whole or not."""
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    found = (step_of(name) for name in names if name.startswith("step_"))
    return sorted(step for step in found if step is not None)


def step_of(name: str) -> int | None:
    """The number of a folder called step_<n>, or <word>_step_<n>; None where it is spelled in another way."""
    found = re.fullmatch(r"(?:[a-z]+_)?step_(0|[1-9][0-9]*)", name)
    return int(found[1]) if found else None


@contextlib.contextmanager
def saving(checkpoints: Path, step: int, identity: str) -> Iterator[Path]:
    """Yield the empty folder tmp_step_<n>; on success it is listed, synced and becomes step_<n>.

    `identity` is the run's, see `run_identity`. Raises lease.Lost, and touches nothing more, where another
    job has taken over the run.
    """
    final, aside, old = (checkpoints / f"{word}step_{step}" for word in ("", "tmp_", "old_"))
    lease.check()
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        write_list(aside, "trl", {"run": identity, "step": step})
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


def seal(folder: Path) -> None:
    """List and sync a checkpoint that NeMo-RL has written, before it gets its final name."""
    request = frozen_request(RunFolder(folder.parent.parent))
    write_list(folder, "nemo-rl", {"run": request and run_identity(request)})


def write_list(folder: Path, engine: str, facts: Json) -> None:
    """Write the list of the checkpoint's files, after `facts`, and sync all of it."""
    form = FORMATS[engine]
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != form.listing)
    files = {
        str(path.relative_to(folder)): {"size": path.stat().st_size, form.hash_key: form.hashed_by(path)}
        for path in found
    }
    write_json(folder / form.listing, {**facts, "files": files})
    settle_tree(folder)


def damage(folder: Path, engine: str) -> str | None:
    """What is wrong with the checkpoint step_<n>, in a few words; None where it is whole and of this run."""
    form = FORMATS[engine]
    try:
        listed = json.loads(records.read_text(folder / form.listing))
        files = {
            records.inside(name): (facts["size"], facts[form.hash_key])
            for name, facts in listed["files"].items()
        }
        run, step = listed["run"], listed.get("step")
    except FileNotFoundError:
        missing = [name for name in form.parts or (form.listing,) if not (folder / name).exists()]
        return f"{missing[0]} is missing" if missing else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{form.listing} is damaged"
    if step is not None and folder.name != f"step_{step}":
        return f"it is step {step} under another name"
    request = frozen_request(RunFolder(folder.parent.parent))
    if request is not None and run != run_identity(request):
        # Training would go on from its step, and perhaps be complete at once.
        return "it belongs to another run"
    for name, (size, digest) in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        info = path.stat()
        if info.st_size != size:
            return f"{name} has {info.st_size} bytes of {size}"
        if _digest(form.hashed_by, path, size, info.st_mtime_ns) != digest:
            return f"{name} has other content than was saved"
    if form.exact and (extra := {path.name for path in folder.iterdir()} - {*files, form.listing}):
        return f"{min(extra)} does not belong to it"
    return None


@functools.lru_cache(maxsize=4096)
def _digest(hashed_by: Callable[[Path], str], path: Path, size: int, mtime: int) -> str:
    """A file's hash, taken once by a process: a link looks at gigabytes of checkpoints several times."""
    return hashed_by(path)


def frozen_request(folder: RunFolder) -> dict | None:
    """The request of the run whose folder this is; None where run.json is not there."""
    if not folder.run_json.exists():
        return None
    with records.checked(folder.run_json, ANEW):
        return records.of(Json, read_json(folder.run_json)["request"], "request")


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run. Steps are optimiser steps."""

    folder: RunFolder
    engine: str  # a key of FORMATS

    def whole(self) -> list[int]:
        """Steps of the whole checkpoints of this run, in order."""
        there = steps(self.folder.checkpoints)
        return [step for step in there if damage(self.folder.checkpoint(step), self.engine) is None]

    def complete(self, run: Run, whole: Sequence[int]) -> bool:
        """Whether the last step and every averaged one are whole or converted, or final/ is there."""
        if (self.folder.final / "manifest.json").exists():
            return True
        wanted = {*run.schedule.averaged, run.schedule.steps}
        return all(step in whole or self._converted(step) for step in wanted)

    def lost(self, run: Run, whole: Sequence[int]) -> list[int]:
        """Averaged steps that the training is past and that are neither whole nor converted."""
        newest = max(whole, default=0)
        gone = [step for step in run.schedule.averaged if step <= newest and step not in whole]
        return [step for step in gone if not self._converted(step)]

    def mend(self) -> list[str]:
        """Leave as the highest number the checkpoint to go on from; say what was done, a line each.

        A kill between the two renames of a replacement leaves old_step_<n> alone: it gets its name back.
        What was being saved is removed. A damaged checkpoint, or one of another run, is set aside, so that
        the one before it counts. The one-box engine trains a lost averaged step again: then the checkpoints
        after it are set aside too.
        """
        checkpoints, said = self.folder.checkpoints, []
        for path in sorted(checkpoints.glob("old_step_*")):
            final = checkpoints / path.name.removeprefix("old_")
            if final.exists():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.rename(final)
                said.append(f"{final.name} was being replaced when the process ended: the old one is back")
        for path in sorted(checkpoints.glob("tmp_step_*")):
            shutil.rmtree(path, ignore_errors=True)
            said.append(f"{path.name} was never finished: removed")
        whole = []
        for step in steps(checkpoints):
            if fault := damage(self.folder.checkpoint(step), self.engine):
                said.append(
                    f"step_{step} is damaged ({fault}): set aside as {self._set_aside(step, 'damaged')}"
                )
            else:
                whole.append(step)
        again = self._to_redo(whole)
        for step in [step for step in whole if again is not None and step > again]:
            aside = self._set_aside(step, "redo")
            said.append(f"step_{again} has to be trained again: step_{step} is set aside as {aside}")
        return said

    def tidy(self, run: Run, there: Sequence[int]) -> list[int]:
        """Remove saves for a deadline or for recovery that newer ones made superfluous; returns their steps.

        Of the steps that are `there`, the averaged ones, the scheduled saves and the newest two stay.
        """
        schedule = run.schedule
        return self.remove(there, lambda step: step in schedule.averaged or step % schedule.save_period == 0)

    def remove(self, there: Sequence[int], keep: Callable[[int], bool]) -> list[int]:
        """Remove of the steps that are `there` all but the newest two and those to `keep`; returns them."""
        gone = [step for step in sorted(there)[:-2] if not keep(step)]
        for step in gone:
            # Out of its name first: half removed it would pass for a damaged one. make prune may be faster.
            with contextlib.suppress(FileNotFoundError):
                self.folder.checkpoint(step).rename(self.folder.checkpoints / f".gone_step_{step}")
        for aside in self.folder.checkpoints.glob(".gone_step_*"):
            shutil.rmtree(aside, ignore_errors=True)
        return gone

    def drop_set_aside(self) -> None:
        """Remove what `mend` set aside, as far as the training has come past it again."""
        newest = max(steps(self.folder.checkpoints), default=0)
        for word in ("damaged", "redo"):
            for path in self.folder.checkpoints.glob(f"{word}_step_*"):
                if (step := step_of(path.name)) is not None and step <= newest:
                    shutil.rmtree(path, ignore_errors=True)

    def _converted(self, step: int) -> bool:
        return (self.folder.hf_step(step) / "manifest.json").exists()

    def _to_redo(self, whole: Sequence[int]) -> int | None:
        """The first averaged step of the frozen run that is lost, where this engine trains it again."""
        request = frozen_request(self.folder)
        if request is None or not FORMATS[self.engine].redoes:
            return None
        with records.checked(self.folder.run_json, ANEW):
            averaged = records.of(list[int], request["recipe"]["schedule"]["averaged"], "averaged")
        return next((n for n in sorted(averaged) if n not in whole and not self._converted(n)), None)

    def _set_aside(self, step: int, word: str) -> str:
        aside = self.folder.checkpoints / f"{word}_step_{step}"
        shutil.rmtree(aside, ignore_errors=True)
        self.folder.checkpoint(step).rename(aside)
        return aside.name
