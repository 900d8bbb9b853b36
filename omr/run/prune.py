"""What of a run's folder is no longer needed, and why; removal only when asked for."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from omr import files, manifest
from omr.recipe import Run
from omr.run import frozen, validation
from omr.run.checkpoints import Checkpoints, step_of, steps
from omr.workspace import RunFolder, Workspace


@dataclass(frozen=True)
class Surplus:
    """A folder that may go."""

    path: Path
    size: int  # bytes
    why: str


def surplus(run: Run, workspace: Workspace, proven: bool = True) -> list[Surplus]:
    """Folders of the run that nothing needs any more, smallest step first.

    Only with `proven` is the newest checkpoint read and hashed; without, its name is believed, which is
    enough to show what there is and too little to remove it.

    While final/ is not there: checkpoints for a deadline or recovery older than the newest whole one. An
    averaged step's checkpoint, its converted form, and whatever is at or after the newest whole checkpoint
    stay. With final/ finished, all that it was made from may go, and it is said which of it make validate has
    yet to measure.
    """
    folder = workspace.run(run)
    done = manifest.read(folder.final) is not None
    newest = None if done else newest_whole(run, folder) if proven else _newest_name(folder)
    unmeasured = _unmeasured(run, folder) if done else set()
    found = []
    for path, step, kind in _there(folder):
        why = _why(step, kind, step in run.schedule.averaged, newest, done)
        if why and kind == "hf" and step in unmeasured:
            why = f"{why}; make validate has not measured it"
        if why:
            found.append(Surplus(path, _size(path), why))
    return found


def _there(folder: RunFolder) -> list[tuple[Path, int, str]]:
    """Path, step and kind of every folder of a step: `step`, `hf`, or the word before `step_<n>`."""
    found = []
    for parent, kind in ((folder.checkpoints, "step"), (folder.hf, "hf")):
        for path in parent.iterdir() if parent.is_dir() else []:
            step = step_of(path.name)
            # A link to a folder is left: what it leads to may not be of this run.
            if step is not None and path.is_dir() and not path.is_symlink():
                word = path.name.partition("step_")[0]
                found.append((path, step, word.rstrip("_") or kind))
    return sorted(found, key=lambda entry: (entry[1], entry[0]))


def _why(step: int, kind: str, averaged: bool, newest: int | None, done: bool) -> str | None:
    """Why a folder may go; None where it may not."""
    if done:
        return "final/ is finished"
    if newest is None or step >= newest or kind == "tmp":
        return None
    if kind == "step" and not averaged:
        return f"saved for a deadline or recovery, step_{newest} is newer and whole"
    if kind in ("damaged", "redo", "old"):
        return f"set aside, step_{newest} is newer and whole"
    return None


def _unmeasured(run: Run, folder: RunFolder) -> set[int]:
    """The averaged steps without a loss on held-out rows, of a run that has such rows."""
    began = frozen.read(folder)
    if began is None or not began.data.validation:
        return set()
    found = validation.losses_of(folder)
    known = validation.current(found, began.data.validation, frozen.final_models(folder))
    return {step for step in run.schedule.averaged if f"step_{step}" not in known}


def newest_whole(run: Run, folder: RunFolder) -> int | None:
    """The step that training would go on from."""
    began = frozen.read(folder)
    saved = Checkpoints(folder, began.engine if began else run.model.engine)
    return max(saved.whole(), default=None)


def _newest_name(folder: RunFolder) -> int | None:
    return max(steps(folder.checkpoints), default=None)


def remove(found: list[Surplus]) -> None:
    """Remove what `surplus` listed. Safe beside a training job: it goes on from a checkpoint that stays."""
    for entry in found:
        # Out of its name first: a half-removed folder must not pass for a checkpoint.
        aside = entry.path.with_name(f".pruned.{entry.path.name}")
        shutil.rmtree(aside, ignore_errors=True)
        entry.path.rename(aside)
        shutil.rmtree(aside)


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def lines(found: list[Surplus]) -> list[str]:
    """One line a folder, and their sum."""
    rows = [f"{files.human(entry.size):>9}  {entry.path}  ({entry.why})" for entry in found]
    return [*rows, f"{files.human(sum(entry.size for entry in found)):>9}  in all"]
