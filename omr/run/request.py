"""A training request, frozen: what a run folder was started with, and that nothing of it changed since."""

import hashlib
import json
from pathlib import Path

from omr import manifest, recipe
from omr.errors import RequestError
from omr.files import read_json, write_json
from omr.workspace import RunFolder, Workspace


def base_of(run: recipe.Run, workspace: Workspace) -> Path:
    """The model folder a run starts from: the patched base, or for round 2 round 1's final model.

    A named round 2 starts from the round 1 of the same NAME where there is one, else from the plain one.
    """
    if run.round.number == 1:
        return workspace.model(run.model.name)
    first = recipe.run(run.model.name, 1, steps=run.schedule.steps if run.name else None, name=run.name)
    named = workspace.run(first).final
    return named if named.exists() else workspace.run(recipe.run(run.model.name, 1)).final


def data_of(run: recipe.Run, workspace: Workspace, modes: tuple[str, ...] = recipe.SPLITS) -> Path:
    """The SFT file a run trains on: the one of its NAME where there is one, else the plain one."""
    named = workspace.data(run.model.corpus, run.round.key, modes, run.name)
    return named if named.exists() else workspace.data(run.model.corpus, run.round.key, modes)


def identity(model: Path) -> str:
    """Hex digest of a finished model folder, from the hashes in its manifest; its card does not count."""
    origin = manifest.read(model)
    if origin is None:
        raise RequestError(f"{model}: is not a finished model; make it first")
    content = {name: entry for name, entry in origin["files"].items() if name != "README.md"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def request(
    run: recipe.Run,
    workspace: Workspace,
    *,
    engine: str,
    modes: tuple[str, ...] = recipe.SPLITS,
    limit: int | None = None,
    **more: object,
) -> dict:
    """What decides a run's result, for `freeze`; a RequestError names what is missing and how to make it.

    `more` are further words that change the result (nodes, gpus, overrides).
    """
    words = f"MODEL={run.model.name}"
    base, data = base_of(run, workspace), data_of(run, workspace, modes)
    if manifest.read(base) is None:
        if run.round.number == 2:
            raise RequestError(
                f"{base}: round 1's final model is not there; run make train {words} ROUND=1 first"
            )
        raise RequestError(f"{base}: the base model is not there; run make model {words} first")
    origin = manifest.read(data)
    if origin is None:
        variant = f" VARIANT={run.round.variant}" if run.round.number == 2 else ""
        target = f"make data DATASET={run.model.corpus} ROUND={run.round.number}{variant}"
        raise RequestError(f"{data}: the training data is not there; run {target} first")
    return {
        "recipe": run.as_dict(),
        "engine": engine,
        "base": {"path": str(base), "identity": identity(base)},
        "data": {"path": str(data), **{key: origin[key] for key in ("sha256", "size", "rows")}},
        "limit": limit,
        **more,
    }


def plain(request: dict) -> dict:
    """The request as it will be read back: tuples are lists."""
    return json.loads(json.dumps(request))


def frozen(run: recipe.Run, folder: RunFolder) -> dict:
    """What `freeze` wrote when the run was trained; a RequestError where it was not."""
    if not folder.run_json.exists():
        raise RequestError(f"{folder.root}: was not trained; run make train MODEL={run.model.name} first")
    return read_json(folder.run_json)


def freeze(folder: RunFolder, wanted: dict) -> dict:
    """Write run.json, or check that it says the same; a RequestError names what changed since."""
    wanted = plain(wanted)
    if folder.run_json.exists():
        frozen = read_json(folder.run_json)
        if different := manifest.changes(frozen["request"], wanted):
            raise RequestError(
                f"{folder.root} was started with another request: {'; '.join(different)};"
                " ask for the same again, or set NAME=… for a run of its own"
            )
        return frozen
    frozen = {"request": wanted, "code": manifest.code_revision(), "command": manifest.command()}
    write_json(folder.run_json, frozen)
    return frozen
