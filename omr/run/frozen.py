"""run.json: what a run folder was started with, and that nothing of it changed since."""

import hashlib
import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from omr import manifest, recipe, records
from omr.errors import RequestError
from omr.files import Json, read_json, write_json
from omr.request import TrainRequest
from omr.run import checkpoints, snapshot, validation
from omr.run.checkpoints import ANEW
from omr.run.events import log_event
from omr.run.validation import ValidationFile
from omr.workspace import RunFolder, Workspace


@dataclass(frozen=True)
class BaseModel:
    """The model folder that a run starts from."""

    path: Path
    identity: str  # hex digest, see `identity`


@dataclass(frozen=True)
class TrainingData:
    """The SFT file that a run reads."""

    path: Path
    sha256: str
    size: int  # bytes
    rows: int
    validation: tuple[ValidationFile, ...] = ()  # rows of held-out problems, by split


@dataclass(frozen=True)
class FrozenRun:
    """Everything that decides a run's result, with the code and the command that began it."""

    run: recipe.Run
    engine: str
    base: BaseModel
    data: TrainingData
    limit: int | None  # at most so many of the data's rows
    overrides: str | None  # keys of NeMo-RL that the user set
    code: str = ""  # the commit of this toolkit
    code_id: str = ""  # snapshot.code_id of the code that trains it
    command: str = ""
    recipe_file: Json | None = None  # all that the recipe file said, of a recipe that is not shipped

    def request_json(self) -> Json:
        """What decides the result, as plain JSON values: the `request` of run.json."""
        held_out = self.data.validation
        values = {
            "recipe": self.run.as_dict(),
            "engine": self.engine,
            "base": {"path": str(self.base.path), "identity": self.base.identity},
            "data": {
                "path": str(self.data.path),
                "sha256": self.data.sha256,
                "size": self.data.size,
                "rows": self.data.rows,
                **({"validation": [asdict(each) for each in held_out]} if held_out else {}),
            },
            "limit": self.limit,
            "overrides": self.overrides,
            **({"recipe_file": self.recipe_file} if self.recipe_file else {}),
        }
        return json.loads(json.dumps(values, default=str))  # tuples are lists, as they are when read back

    @property
    def run_identity(self) -> str:
        """Hex digest of the request. Checkpoints carry it: one of another run is never resumed from."""
        return checkpoints.run_identity(self.request_json())


def base_of(run: recipe.Run, workspace: Workspace) -> Path:
    """The model folder a run starts from: the patched base, or for round 2 round 1's final model.

    It is round 1's of the same edition. A named round 2 starts from the round 1 of the same NAME where there
    is one, else from the one without.
    """
    if run.round.number == 1:
        return workspace.model(run.model.folder)
    first = recipe.run(run.model.name, 1, edition=run.edition)
    named = workspace.run(replace(first, name=run.name)).final
    return named if named.exists() else workspace.run(first).final


def data_of(run: recipe.Run, workspace: Workspace, modes: tuple[str, ...] | None = None) -> Path:
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


def inputs(request: TrainRequest, workspace: Workspace) -> FrozenRun:
    """What the request would train with now; a RequestError names what is missing and how to make it."""
    run = request.run
    words = recipe.words(run.model)
    base, data = base_of(run, workspace), data_of(run, workspace, request.modes)
    if manifest.read(base) is None:
        if run.round.number == 2:
            raise RequestError(
                f"{base}: round 1's final model is not there; run make train"
                f" {recipe.run_words(recipe.run(run.model.name, 1, edition=run.edition))} first"
            )
        raise RequestError(f"{base}: the base model is not there; run make model {words} first")
    origin = manifest.read(data)
    if origin is None:
        target = recipe.data_words(run.model.corpus, run.round.number, run.round.variant)
        raise RequestError(f"{data}: the training data is not there; run make data {target} first")
    validation.refuse_other(data, origin)
    return FrozenRun(
        run,
        request.engine,
        BaseModel(base, identity(base)),
        TrainingData(data, origin["sha256"], origin["size"], origin["rows"], validation.files_of(data)),
        request.limit,
        request.overrides,
        recipe_file=recipe.of_model(run.model).values if run.model.corpus not in recipe.SHIPPED else None,
    )


def read(folder: RunFolder) -> FrozenRun | None:
    """What `freeze` wrote when the run began, None where it did not; damage is an OmrError."""
    if not folder.run_json.exists():
        return None
    values = read_json(folder.run_json)
    with records.checked(folder.run_json, ANEW):
        request = values["request"]
        return FrozenRun(
            recipe.Run.from_dict(request["recipe"]),
            records.of(str, request["engine"], "engine"),
            records.of(BaseModel, request["base"], "base"),
            records.of(TrainingData, request["data"], "data"),
            records.of(int | None, request["limit"], "limit"),
            records.of(str | None, request.get("overrides"), "overrides"),
            records.of(str, values["code"], "code"),
            records.of(str, values.get("code_id", ""), "code_id"),
            records.of(str, values["command"], "command"),
            recipe_file=records.of(Json | None, request.get("recipe_file"), "recipe_file"),
        )


@dataclass(frozen=True)
class Code:
    """The state of this toolkit that trains a run."""

    revision: str  # the commit
    identity: str  # snapshot.code_id; empty for a run from before codes were kept


def code_of(folder: RunFolder) -> Code | None:
    """What `freeze` wrote of the code, None where the run did not begin; damage is an OmrError.

    The rest of run.json is not read: it may be of a version that only that version understands.
    """
    if not folder.run_json.exists():
        return None
    values = read_json(folder.run_json)
    with records.checked(folder.run_json, ANEW):
        return Code(records.of(str, values["code"], "code"), records.of(str, values.get("code_id", "")))


def run_of(folder: RunFolder) -> recipe.Run | None:
    """The run that a folder is of, None where it was not begun; damage is an OmrError."""
    if not folder.run_json.exists():
        return None
    with records.checked(folder.run_json, ANEW):
        return recipe.Run.from_dict(read_json(folder.run_json)["request"]["recipe"])


def base_path(folder: RunFolder) -> Path:
    """The model that a run began from; damage is an OmrError."""
    with records.checked(folder.run_json, ANEW):
        return records.of(Path, read_json(folder.run_json)["request"]["base"]["path"], "base.path")


def knows_held_out(began: FrozenRun) -> str | None:
    """Says that a second round's base was trained on problems that its data holds out; None where it was not.

    What is gone since tells nothing.
    """
    first = read(RunFolder(began.base.path.parent)) if began.run.round.number == 2 else None
    if not began.data.validation or first is None:
        return None
    here, there = (manifest.read(each.data.path) for each in (began, first))
    if not here or not there:
        return None
    held_out = f"problems that {began.data.path.name} holds out"
    if there["sha256"] != first.data.sha256:
        made_anew = f"the data of {first.run.title} was made anew since"
        return f"{made_anew}: whether it was trained on {held_out} is not known"
    if validation.covers(there["inputs"], here["inputs"]):
        return None
    return (
        f"{first.run.title} may have been trained on {held_out}, whose loss says nothing then; make its data"
        " with the same VALIDATION"
    )


def final_models(folder: RunFolder) -> dict[str, str]:
    """The identity of a run's final model, and of each step that was averaged into it; {} without one."""
    made = manifest.read(folder.final)
    if made is None:
        return {}
    steps = made.get("inputs", {}).get("steps", {})
    return {validation.FINAL: identity(folder.final), **{f"step_{n}": one for n, one in steps.items()}}


def need(run: recipe.Run, folder: RunFolder) -> FrozenRun:
    """What the run was trained with; a RequestError where it was not trained."""
    frozen = read(folder)
    if frozen is None:
        raise RequestError(f"{folder.root}: was not trained; run make train {recipe.run_words(run)} first")
    return frozen


def freeze(folder: RunFolder, wanted: FrozenRun) -> FrozenRun:
    """Write run.json, or check that it says the same; a RequestError names what changed since."""
    if frozen := read(folder):
        if different := manifest.changes(frozen.request_json(), wanted.request_json()):
            raise RequestError(
                f"{folder.root} was started with another request: {'; '.join(different)};"
                " ask for the same again, or set NAME=… for a run of its own"
            )
        return frozen
    write_json(folder.run_json, {"request": wanted.request_json(), **_code(), "command": manifest.command()})
    return read(folder)


def _code() -> dict[str, str]:
    """The state of this toolkit, as run.json has it."""
    return {"code": manifest.code_revision(), "code_id": snapshot.code_id()}


def note_other_code(folder: RunFolder, began: FrozenRun) -> None:
    """On one machine a run goes on with the code of now: the event log and the terminal say so."""
    if began.code_id and began.code_id != snapshot.code_id():
        line = (
            f"goes on with another state of this toolkit: {manifest.code_revision()}, began with {began.code}"
        )
        log_event(folder, line)
        print(f"note: {line}", file=sys.stderr)


def take_code(folder: RunFolder) -> None:
    """From now on the run is trained with the code that this process runs: RECODE=1, and runs without any."""
    write_json(folder.run_json, read_json(folder.run_json) | _code())
