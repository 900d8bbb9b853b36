"""`make average`: the converted steps of a run become final/: averaged, finished and verified."""

import sys
from pathlib import Path
from typing import TypedDict

from omr import files, manifest, recipe
from omr.errors import OmrError, RequestError, listing
from omr.models import convert, passport, weights
from omr.models.final import card, finish, mean
from omr.models.final.mean import FileEntries
from omr.models.passport import Entries, Station
from omr.recipe import Run
from omr.run import frozen
from omr.run.checkpoints import steps as numbered
from omr.run.frozen import FrozenRun
from omr.workspace import RunFolder, Workspace


class Inputs(TypedDict):
    """What decides the content of final/."""

    steps: dict[str, str]  # averaged step -> identity of its hf/step_<n>
    base: str  # identity of the base model
    data: str  # sha256 of the training data


class Manifest(TypedDict):
    """What manifest.json of final/ says, beside the code and the command that made it."""

    inputs: Inputs
    files: FileEntries
    averaged: dict[str, FileEntries]  # the weights that were read: folder name -> files
    seen: dict[str, dict[str, int | str]]  # the weights' fingerprints
    checked_rows: dict[str, int]  # rows that the chat template was checked on, by split
    passport: dict[str, Entries]  # of the average, and of the final model
    versions: dict[str, str]


def sources(run: Run, folder: RunFolder) -> dict[int, Path]:
    """Step -> finished hf/step_<n>, for exactly the averaged steps; an OmrError if one is missing.

    Converted checkpoints of deadline saves may stand beside them; any other folder is an OmrError, too.
    """
    found = numbered(folder.hf)
    odd = sorted(
        p.name
        for p in (folder.hf.iterdir() if folder.hf.is_dir() else [])
        if not p.name.startswith(".")
        and p.name not in {f"step_{n}" for n in found if 0 < n <= run.schedule.steps}
    )
    if odd:
        raise OmrError(
            f"{folder.hf / odd[0]}: is no step of this run; move it away, it would only be guessed at"
        )
    missing = [step for step in run.schedule.averaged if step not in found]
    if missing:
        there = listing([f"step_{n}" for n in found], "and") or "none"
        are = "are" if len(missing) > 1 else "is"
        raise OmrError(
            f"{folder.hf}: {listing([f'step_{n}' for n in missing], 'and')} {are} missing (there: {there});"
            f" all of {listing(map(str, run.schedule.averaged), 'and')} are averaged, make train brings them"
        )
    half = [step for step in run.schedule.averaged if manifest.read(folder.hf_step(step)) is None]
    if half:
        raise OmrError(
            f"{folder.hf_step(half[0])}: is half-written (no manifest.json); make train converts it again"
        )
    return {step: folder.hf_step(step) for step in run.schedule.averaged}


def inputs(run: Run, folder: RunFolder, began: FrozenRun) -> Inputs:
    """What decides final/ now; a step whose folder is gone is left out."""
    steps = {
        str(s): frozen.identity(folder.hf_step(s))
        for s in run.schedule.averaged
        if folder.hf_step(s).exists()
    }
    return {"steps": steps, "base": began.base.identity, "data": began.data.sha256}


def finished(run: Run, workspace: Workspace, force: bool = False) -> Manifest | None:
    """The manifest of a final/ made from these inputs, else None; a pruned step counts as unchanged."""
    folder = workspace.run(run)
    made = None if force else manifest.read(folder.final)
    if made is None:
        return None
    wanted = inputs(run, folder, frozen.need(run, folder))
    wanted["steps"] = {**made["inputs"]["steps"], **wanted["steps"]}
    return manifest.finished(folder.final, wanted)


def make(run: Run, workspace: Workspace, force: bool = False, verify: bool = False) -> Manifest:
    """Average, finish and verify; returns the manifest of final/.

    The conversion hashed the weights. Those whose size, time or sampled blocks changed since are hashed
    again, or all of them with `verify`. An OmrError leaves nothing under the final name; the next attempt
    goes on with the shards that are finished.
    """
    if made := finished(run, workspace, force):
        return made
    folder = workspace.run(run)
    if convert.left_by_ns(folder) and not folder.run_json.exists():
        raise RequestError(
            f"{folder.run_json}: is not there, so nothing says what this run was trained with; the same make"
            " train LAUNCHER=ns again writes it"
        )
    began = frozen.need(run, folder)
    aside = folder.final.with_name(".final.partial")
    with files.lock(folder.root / ".average.lock", str(folder.final)):
        if convert.left_by_ns(folder):
            convert.from_ns(run, workspace)
        steps = sources(run, folder)
        models = {f"step_{step}": weights.shards(path) for step, path in steps.items()}
        _unchanged(
            steps, {path.name: manifest.entries(path, patterns=weights.SIDE) for path in steps.values()}
        )
        written, read = mean.average(models, aside, {} if verify else _untouched(steps))
        _unchanged(steps, read)
        last = steps[max(steps)]
        finish.side_files(last, aside, run.model)
        converted = Station(last.name, manifest.read(last)["passport"])
        averaged = passport.check(aside, run.model, "average", converted)
        finish.settle(aside, recipe.chat(run.model), run.model.sequence_length)
        final = passport.check(aside, run.model, "final", Station("the average", averaged))
        checked = _check_template(aside, began.data.path)
        data = manifest.read(began.data.path) or {}
        known = finish.departures(run, began.engine, folder)
        files.write_text(aside / card.FILE, card.text(began, data, list(steps), known))
        (aside / mean.PROGRESS).unlink()
        manifest.write(
            aside,
            inputs(run, folder, began),
            files=manifest.entries(aside, written),
            averaged=read,
            seen=manifest.fingerprints(aside),
            checked_rows=checked,
            passport={"average": averaged, "final": final},
            versions=manifest.versions("numpy", "ml_dtypes", "transformers"),
        )
        files.install(aside, folder.final)
    return manifest.read(folder.final)


def _unchanged(steps: dict[int, Path], read: dict[str, FileEntries]) -> None:
    """An OmrError if a file is no longer what it was when its step was converted."""
    for path in steps.values():
        listed = manifest.read(path)["files"]
        for name, entry in read[path.name].items():
            if listed.get(name) != entry:
                raise OmrError(
                    f"{path / name}: changed since {path.name} was converted; make train converts it again"
                )


def _untouched(steps: dict[int, Path]) -> dict[str, FileEntries]:
    """The weights that were not touched since their step was converted: folder name -> files."""
    found = {}
    for path in steps.values():
        made = manifest.read(path)
        seen = made.get("seen", {}).items()
        same = [n for n, facts in seen if manifest.fingerprint(path / n).as_json() == facts]
        found[path.name] = {name: made["files"][name] for name in same}
    return found


def _check_template(aside: Path, data: Path) -> dict[str, int]:
    """Rows of the training data that the chat template was checked on, by split; none if the data is gone."""
    if not data.exists():
        print(f"{data} is gone: the chat template was not checked on its rows", file=sys.stderr)
        return {}
    return finish.check_rows(aside, data)


def plan(run: Run, workspace: Workspace) -> list[str]:
    """What would be read and written, a line for each folder; says which is missing."""
    folder = workspace.run(run)
    lines = []
    for step in run.schedule.averaged:
        path = folder.hf_step(step)
        there = manifest.read(path) is not None
        if not there and convert.left_by_ns(folder):
            path = convert.ns_step(folder, step)
            there = path.is_dir()
        lines.append(f"read   {path}{'' if there else '  (not there yet)'}")
    return [
        *lines,
        f"write  {folder.final}  (their mean in fp32; eos ids, chat template and model card as trained)",
    ]


def summary(made: Manifest) -> str:
    """A manifest in one line: bytes, averaged steps, rows checked."""
    size = files.human(sum(entry["size"] for entry in made["files"].values()))
    rows = sum(made["checked_rows"].values())
    return f"{size}, the mean of {listing(made['averaged'], 'and')}; chat template checked on {rows} rows"
