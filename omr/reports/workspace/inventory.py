"""What a workspace holds: every data file, model and run, its state, its disk, and what to type next.

Nothing is hashed and no weights are read: names, sizes, and the small files that say how things are.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from omr import manifest, recipe, records
from omr.cluster import slurm, status, submit
from omr.cluster.status import Status
from omr.data import statistics
from omr.errors import OmrError, RequestError
from omr.evaluation import results
from omr.files import Json, is_locked
from omr.recipe import Run
from omr.reports import commands
from omr.reports.workspace.sizes import Size, measure
from omr.run import events, frozen, prune
from omr.run.chain_state import Submitted
from omr.run.frozen import FrozenRun
from omr.workspace import RunFolder, Workspace, manifest_of


@dataclass(frozen=True)
class Item:
    """A data file, a model or a run."""

    kind: str  # data, model, run
    name: str
    path: Path
    state: str  # finished, running, queued, refused, stopped, unreadable
    size: Size
    told: str = ""  # one line about it
    next: str = ""  # what to type
    prunable: int = 0  # bytes of `size`: what make prune would list
    page: Path | None = None  # its own report, where there is one
    accuracy: float | None = None  # pass@1 of the final model in its first mode, as a share of 1


@dataclass(frozen=True)
class Inventory:
    """All of a workspace."""

    root: Path
    data: Sequence[Item]
    models: Sequence[Item]
    runs: Sequence[Item]
    rest: dict[str, Size] = field(default_factory=dict)  # other folders of the workspace

    @property
    def size(self) -> Size:
        """Everything."""
        return sum([*(i.size for i in (*self.data, *self.models, *self.runs)), *self.rest.values()], Size())


def as_json(found: Inventory | Item) -> Json:
    """Plain values for JSON=1; sizes are bytes."""
    return _plain(asdict(found))


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value


def take(workspace: Workspace, limit: float | None = None) -> Inventory:
    """Look at all of a workspace; `limit` is the time limit of a job in seconds, where that is set."""
    root = workspace.root
    models = _folders(root / "models")
    folders = [folder for parent in _folders(root / "runs") for folder in _folders(parent)]
    rest = [path for path in _folders(root) if path.name not in ("models", "runs")]
    sizes = measure([*models, *folders, *rest])
    data = [_data(path) for path in _data_files(root / "data")]
    others = {path.name: sizes[path] for path in rest}
    if "data" in others:
        others["data"] -= sum((item.size for item in data), Size())
    return Inventory(
        root,
        data,
        [_model(path, sizes[path]) for path in models],
        [item for path in folders if (item := _run(RunFolder(path), workspace, sizes[path], limit))],
        {name: size for name, size in others.items() if size.files},
    )


def _folders(parent: Path) -> list[Path]:
    """The folders in a folder, without those that are hidden."""
    there = parent.iterdir() if parent.is_dir() else []
    return sorted(path for path in there if path.is_dir() and not path.name.startswith("."))


# ---- data ----


def _data_files(folder: Path) -> list[Path]:
    """The SFT files of a folder, also those that a stopped or running `make data` has not finished."""
    there = list(folder.iterdir()) if folder.is_dir() else []
    made = {p for p in there if p.suffix == ".jsonl" and not p.name.endswith(".rejected.jsonl")}
    begun = [p.stem[1:] for p in there if p.name.startswith(".") and p.suffix == ".work"]
    return sorted({*made, *(folder / f"{stem}.jsonl" for stem in begun)})


def _data(path: Path) -> Item:
    beside = ("manifest.json", "lengths.json", "rejected.jsonl", "report.html", "quality.json", "quality")
    work = path.with_name(f".{path.stem}.work")
    parts = measure([path, work, *(path.with_suffix(f".{end}") for end in beside)])
    page = path.with_suffix(".report.html")
    size = sum(parts.values(), Size())
    item = Item("data", path.stem, path, "stopped", size, page=page if page.exists() else None)
    try:
        origin = manifest.read(path)
        lengths = statistics.read(path)
        if is_locked(path.with_name(f".{path.stem}.lock")):
            return replace(item, state="running", told="make data works on it")
        if origin is None:
            return replace(item, told="not finished: the same make data goes on")
        with records.checked(manifest_of(path), manifest.ANEW):
            words = commands.of_data(path, origin) or ""
            splits = ", ".join(f"{name} {counts['kept']:,}" for name, counts in origin["splits"].items())
    except (OmrError, OSError) as error:
        return _unreadable(item, error)
    counted = lengths is not None and lengths.data == origin["sha256"]
    told = f"{origin['rows']:,} rows" + (f": {splits}" if splits else "")
    follows = "make train MODEL=…" if counted else f"make data-report {words}"
    return replace(item, state="finished", told=told, next=follows)


# ---- models ----


def _model(path: Path, size: Size) -> Item:
    item = Item("model", path.name, path, "stopped", size)
    try:
        origin = manifest.read(path)
        if is_locked(path.with_name(f".{path.name}.lock")):
            return replace(item, state="running", told="make model works on it")
        with records.checked(manifest_of(path), manifest.ANEW):
            words = _of_model(path, origin or {})
            patch = records.of(list[str], (origin or {}).get("patch", []), "patch")
    except (OmrError, OSError) as error:
        return _unreadable(item, error)
    if origin is None:
        return replace(item, told="not finished", next=f"make model {words}")
    told = "; ".join(patch) or "as published"
    return replace(item, state="finished", told=told, next=f"make train {words}")


def _of_model(path: Path, origin: Json) -> str:
    """The words that name a base model: before its own its folder has the name of another recipe."""
    name = records.of(str, origin.get("inputs", {}).get("model", path.name), "inputs.model")
    corpus = path.name.removesuffix(f"-{name}")
    return recipe.model_words(recipe.SHIPPED[0] if corpus == path.name else corpus, name)


def _unreadable(item: Item, error: OmrError | OSError) -> Item:
    """A thing that is damaged or another's, in one line; the others stand on the page all the same."""
    told = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
    return replace(item, state="unreadable", told=told)


# ---- runs ----


def of_run(run: Run, folder: RunFolder, workspace: Workspace, limit: float | None = None) -> Item:
    """A run that was begun or submitted; a RequestError where it was not."""
    item = _run(folder, workspace, measure([folder.root])[folder.root], limit)
    if item is None:
        raise RequestError(
            f"{folder.root}: there is no such run yet; run make train {recipe.run_words(run)} first"
        )
    return item


def _run(folder: RunFolder, workspace: Workspace, size: Size, limit: float | None) -> Item | None:
    """A run; None for a folder that none was begun in."""
    name = "/".join(folder.root.parts[-2:])
    item = Item("run", name, folder.root, "stopped", size)
    try:
        page = folder.report if folder.report.exists() else None
        began = frozen.read(folder)
        submitted = [Submitted.load(record).run for record in submit.run_records(folder)]
        run = began.run if began else next(filter(None, submitted), None)
        if run is None:
            return None
        now = status.of(run, folder, limit)
        here = folder.root == workspace.run(run).root  # a folder that was renamed is another run's to prune
        surplus = prune.surplus(run, workspace, proven=False) if here else []
        log, found = events.read(folder), results.read(folder.eval_json)
    except (OmrError, OSError) as error:
        return _unreadable(item, error)
    after = next((result.models["after"] for result in found.values() if "after" in result.models), None)
    state = _state(folder, now, log)
    return replace(
        item,
        name=run.title,
        state=state,
        told=_told(now, log, state),
        next=_next(run, began, state, now, after is not None, page is not None, bool(surplus)),
        prunable=sum(entry.size for entry in surplus),
        page=page,
        accuracy=after.scores[results.ALL].pass1 if after else None,
    )


def _state(folder: RunFolder, now: Status, log: Sequence[events.Event]) -> str:
    """How a run is: by final/, by Slurm, by the locks of a training on one machine, and by its last event."""
    if now.final:
        return "finished"
    if any(row.state in slurm.ACTIVE for row in now.rows):
        return "running"
    if now.live:
        return "queued"
    if any(is_locked(folder.root / f".{stage}.lock") for stage in ("train", "average")):
        return "running"
    return "refused" if log and log[-1].kind == "refused" else "stopped"


def _told(now: Status, log: Sequence[events.Event], state: str) -> str:
    parts = [f"step {now.step:,} of {now.steps:,}"]
    if now.loss is not None:
        parts.append(f"loss {now.loss:.3f}")
    if state == "running" and now.seconds_left:
        parts.append(f"about {status.clock(now.seconds_left)} left")
    if state in ("refused", "stopped") and log:
        parts.append(log[-1].text)
    return ", ".join(parts)


def _next(
    run: Run,
    began: FrozenRun | None,
    state: str,
    now: Status,
    evaluated: bool,
    reported: bool,
    surplus: bool,
) -> str:
    """What to type next."""
    words = recipe.run_words(run)
    if state in ("running", "queued"):
        return f"make status {words}"
    if state != "finished":
        jobs = f" NUM_TRAINING_JOBS={now.jobs_needed}" if now.jobs_needed and now.jobs_needed > 1 else ""
        origin: Json = {}
        with contextlib.suppress(OmrError):  # a damaged one is told of at the data
            origin = manifest.read(began.data.path) or {} if began else {}
        return f"make train {commands.of_training(began, origin) if began else words}{jobs}"
    if not evaluated:
        return f"make eval {words}"
    if not reported:
        return f"make report {words}"
    return f"make prune {words}" if surplus else f"make ask {words} Q=…"
