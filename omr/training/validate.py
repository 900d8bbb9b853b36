"""`make validate`: the loss of a run's final model, and of each of its parts, on held-out rows.

Its parts are the averaged steps, hf/step_<n>. By the function that the one-box engine has while it trains,
whichever engine trained the run: on the GPUs of this machine in bf16, where there are any, else on the CPU in
fp32. Each model's losses are written to <run>/validation.json when they are known; killed, it goes on with
the models that are left.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from omr import files, manifest, recipe
from omr.errors import OmrError, RequestError, listing
from omr.models.final import average
from omr.recipe import Run
from omr.run import frozen, validation
from omr.run.validation import FINAL, LOSS, ModelLosses, loss_of
from omr.training.trl.config import EngineConfig, engine_config
from omr.training.trl.validation import models
from omr.training.trl.validation.models import Losses, Order
from omr.workspace import RunFolder, Workspace

Say = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What is measured: the models of a finished run, and the rows."""

    run: Run
    folder: RunFolder
    config: EngineConfig  # its rows, and how long they may be
    models: dict[str, Path]  # final, and each step that was averaged into it
    identities: dict[str, str]  # of each of them, also of a step that was pruned

    @property
    def data(self) -> str:
        """Digest of the held-out rows."""
        return validation.digest_of(self.config.validation)

    def known(self, precision: str | None = None) -> dict[str, Losses]:
        """What an earlier attempt found that still holds; with `precision` only where it was of that."""
        found = validation.losses_of(self.folder)
        if found is None or precision not in (None, found.precision):
            return {}
        holds = validation.current(found, self.config.validation, self.identities)
        return {name: holds[name] for name in self.models if LOSS in holds.get(name, {})}

    def left(self, known: dict[str, Losses]) -> list[str]:
        """The models that have yet to be measured and are there."""
        return [name for name, path in self.models.items() if name not in known and path.is_dir()]

    def gone(self, known: dict[str, Losses]) -> list[str]:
        """Those that were pruned before they were measured."""
        return [name for name, path in self.models.items() if name not in known and not path.is_dir()]


def wanted_of(run: Run, workspace: Workspace) -> Wanted:
    """What is to be measured; a RequestError where nothing was held out, or the run is not finished."""
    folder = workspace.run(run)
    began = frozen.need(run, folder)
    if not began.data.validation:
        raise RequestError(
            f"{run.title}: no row of {began.data.path} was held out; run make data"
            f" {recipe.data_words(run.model.corpus, run.round.number, run.round.variant)} VALIDATION=0.002"
            " NAME=…, then make train with that NAME"
        )
    if origin := manifest.read(began.data.path):
        validation.refuse_other(began.data.path, origin)
    if average.finished(run, workspace) is None:
        raise RequestError(f"{folder.final}: is not there; run make train {recipe.run_words(run)} first")
    identities = frozen.final_models(folder)
    paths = {name: folder.final if name == FINAL else folder.hf / name for name in identities}
    return Wanted(run, folder, engine_config(began), paths, identities)


def finished(wanted: Wanted) -> ModelLosses | None:
    """The losses, where all that is there was measured as it is now; a step that was pruned is not missed."""
    known = wanted.known()
    if FINAL not in known or wanted.left(known):
        return None
    found = validation.losses_of(wanted.folder)
    return found and _result(wanted, found.precision, known)


def make(wanted: Wanted, say: Say, force: bool = False) -> ModelLosses:
    """Measure what is left of the models, with `force` all that are there; returns all losses.

    An OmrError for rows or a model that changed, and where the GPU's memory runs out.
    """
    folder = wanted.folder
    with files.lock(folder.root / ".validate.lock", str(folder.validation_json)):
        if not force and (there := finished(wanted)):
            return there
        gpu = models.sees_gpu()
        precision = "bfloat16" if gpu else "float32"
        known = wanted.known(precision)
        lost = [n for n in wanted.known() if n not in known and not wanted.models[n].is_dir()]
        if lost:
            raise OmrError(
                f"{folder.validation_json}: has {listing(lost, 'and')} in another precision than {precision},"
                " pruned since; measure where that was done, or remove it to go on without"
            )
        if force:
            known = {name: losses for name, losses in known.items() if not wanted.models[name].is_dir()}
        if wanted.run.model.gpus and not gpu:
            say("no GPU is visible here: on the CPU this takes long")
        if gone := wanted.gone(known):
            say(f"{listing(gone, 'and')} {'were' if len(gone) > 1 else 'was'} pruned, and cannot be measured")
        for name, losses in models.measured(_order(wanted, wanted.left(known), gpu)):
            known[name] = _checked(losses, wanted.models[name])
            _result(wanted, precision, known).save(folder)
        return _result(wanted, precision, known)


def _order(wanted: Wanted, names: list[str], gpu: bool) -> Order:
    """These models, which are first seen to be those that were made."""
    for name in names:
        path = wanted.models[name]
        if file := manifest.changed_file(path, manifest.read(path)):
            raise OmrError(f"{file}: changed since {path.name} was made; {_again(wanted, name)}")
    config, paths = wanted.config, {name: wanted.models[name] for name in names}
    return Order(config.title, paths, config.validation, config.longest, config.sequence_length, gpu)


def _again(wanted: Wanted, name: str) -> str:
    """How a model that changed is made again."""
    words = recipe.run_words(wanted.run)
    return f"make average {words} FORCE=1 makes it again" if name == FINAL else f"make train {words} does it"


def _checked(losses: Losses, path: Path) -> Losses:
    """Losses that are numbers; an OmrError says what they are instead."""
    if LOSS not in losses:
        raise OmrError(f"{path}: no held-out row is short enough to have a loss; hold out more rows")
    if odd := [name for name, value in losses.items() if not math.isfinite(value)]:
        raise OmrError(f"{path}: {odd[0]} is {losses[odd[0]]}; look at the loss of its training")
    return losses


def _result(wanted: Wanted, precision: str, known: dict[str, Losses]) -> ModelLosses:
    """The losses as they are kept, final's first."""
    names = [name for name in wanted.models if name in known]
    return ModelLosses(
        wanted.data,
        precision,
        {name: wanted.identities[name] for name in names},
        {name: known[name] for name in names},
    )


def plan(wanted: Wanted, force: bool = False) -> list[str]:
    """What would be read, measured and written, a line each."""
    known = {} if force else wanted.known()
    lines = [f"read    {file.path}  ({file.rows:,} rows)" for file in wanted.config.validation]
    for name, path in wanted.models.items():
        why = "measured already" if name in known else "" if path.is_dir() else "pruned: is left out"
        lines.append(f"measure {path}{f'  ({why})' if why else ''}")
    return [*lines, f"write   {wanted.folder.validation_json}"]


def summary(found: ModelLosses) -> str:
    """The final model's loss beside those of its parts, in one line."""
    final = f"the final model's loss on held-out rows is {found.models[FINAL][LOSS]:.4f}"
    parts = [losses[LOSS] for name, losses in found.models.items() if name != FINAL]
    return f"{final}, its parts' {min(parts):.4f} to {max(parts):.4f}" if parts else final


def table(found: ModelLosses) -> tuple[list[str], list[list[str]]]:
    """A header and a row for each model: its loss on all rows, and on those of each split."""
    splits = list(dict.fromkeys(key for losses in found.models.values() for key in losses if key != LOSS))
    rows = [
        [name, *(f"{losses[key]:.4f}" if key in losses else "-" for key in (LOSS, *splits))]
        for name, losses in found.models.items()
    ]
    return ["model", "all", *(key.removeprefix(loss_of("")) for key in splits)], rows
