"""One page about a run: its data, how it trained, how well it answers, and where everything came from."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omr import manifest, recipe
from omr.data import statistics
from omr.errors import RequestError
from omr.evaluation import results
from omr.files import human, read_json, write_text
from omr.recipe import Run
from omr.reports import data_report, eval_section, pages
from omr.run import frozen, metrics
from omr.run.frozen import FrozenRun
from omr.workspace import RunFolder, manifest_of

CURVES = {"loss": "Training loss", "lr": "Learning rate", "tokens_per_second": "Tokens per second"}


def write(run: Run, folder: RunFolder, force: bool = False) -> bool:
    """Write report.html; False when the one that is there was made from the same files."""
    began = frozen.read(folder)
    if began is None:
        words = recipe.run_words(run)
        raise RequestError(f"{folder.root}: there is no such run yet; run make train {words} first")
    mark = f"sources {_fingerprint(folder, began)}"
    if not force and folder.report.exists() and mark in folder.report.read_text(encoding="utf-8")[-200:]:
        return False
    text = pages.render(f"{run.title}: OpenMathReasoning SFT", lead(folder), list(_sections(folder, began)))
    write_text(folder.report, f"{text.rstrip()}\n<!-- {mark} -->\n")
    return True


def lead(folder: RunFolder) -> str:
    """A begun run in a sentence: how far it is, and its accuracy before and after."""
    steps = frozen.read(folder).run.schedule.steps
    at = max((row["step"] for row in metrics.read(folder.metrics)), default=0)
    finished = manifest.read(folder.final) is not None
    text = (
        f"Trained {steps:,} steps and averaged."
        if finished
        else f"At step {at:,} of {steps:,}, not finished."
    )
    return text + eval_section.sentence(results.read(folder.eval_json))


def _sources(folder: RunFolder, began: FrozenRun) -> list[Path]:
    """The files that a page is made from, those that are there."""
    wanted = [
        folder.run_json,
        manifest_of(began.data.path),
        statistics.path_of(began.data.path),
        manifest_of(began.base.path),
        folder.metrics,
        folder.eval_json,
        manifest_of(folder.final),
    ]
    return [path for path in wanted if path.exists()]


def _fingerprint(folder: RunFolder, began: FrozenRun) -> str:
    """Hex digest of the page's sources and of the code that draws it."""
    digest = hashlib.sha256()
    code = (__file__, pages.__file__, eval_section.__file__)
    for path in [*_sources(folder, began), *map(Path, code), pages.TEMPLATE]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _sections(folder: RunFolder, began: FrozenRun) -> Iterator[pages.Section]:
    """Data, training, accuracy, provenance: as much of it as there is."""
    data = began.data.path
    origin = read_json(manifest_of(data)) if manifest_of(data).exists() else {}
    yield _data(began, origin.get("splits", {}))
    if lengths := statistics.read(data):
        yield data_report.section(lengths)
    yield _training(began, metrics.read(folder.metrics))
    yield from eval_section.sections(results.read(folder.eval_json), began.run.model.name)
    yield pages.Section("Provenance", rows=list(_provenance(folder, began, origin)))


def _data(began: FrozenRun, splits: Mapping[str, Any]) -> pages.Section:
    """Rows of each split, what the round's filter dropped and why, and how often training sees a row.

    `splits` is what the data's manifest counted.
    """
    rows = []
    for split, counts in splits.items():
        dropped = [f"{n:,} {why}" for why, n in {**counts["dropped"], **counts["rejected"]}.items()]
        rows.append([split, f"{counts['read']:,}", f"{counts['kept']:,}", ", ".join(dropped)])
    data = began.data
    seen = began.run.schedule.steps * began.run.model.batch
    text = (
        f"{data.path.name}: {data.rows:,} rows, {human(data.size)}."
        f" Training sees {seen:,} rows, each {seen / (began.limit or data.rows):.2f} times."
    )
    return pages.Section("Data", text, ["split", "rows", "kept", "dropped"], rows)


def _training(began: FrozenRun, steps: Sequence[Mapping[str, float]]) -> pages.Section:
    """The schedule, and a curve for each number that the engine wrote at two steps or more."""
    model, schedule = began.run.model, began.run.schedule
    text = (
        f"{schedule.steps:,} steps of {model.batch:,} rows; learning rate {model.lr:g} after"
        f" {schedule.warmup:,} steps of warmup, by cosine to {model.min_lr:g};"
        f" checkpoints {', '.join(f'{n:,}' for n in schedule.averaged)} are averaged."
    )
    figures = []
    for key, caption in CURVES.items():
        points = [(row["step"], row[key]) for row in steps if key in row]
        if len(points) > 1:
            xs, ys = zip(*points, strict=True)
            figures.append(pages.line_plot({key: (xs, ys)}, "step", key.replace("_", " "), caption))
    return pages.Section("Training", text=text, figures=figures)


def _provenance(folder: RunFolder, began: FrozenRun, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Flat name -> value lines of everything that decided the result; `data` is the data's manifest."""
    request = began.request_json()
    final = manifest.read(folder.final) or {}
    weights = {
        name: entry["sha256"]
        for name, entry in final.get("files", {}).items()
        if name.endswith(".safetensors")
    }
    yield "run folder", str(folder.root)
    yield "code", began.code
    yield "command", began.command
    yield from _flat("data", {**request["data"], **data.get("inputs", {})})
    yield from _flat("base", request["base"])
    yield from _flat("final", {**final.get("inputs", {}), "weights": weights})
    yield from _flat("versions", final.get("versions", {}))


def _flat(name: str, value: object) -> Iterator[tuple[str, str]]:
    """`name key key` -> text of everything in nested mappings, without what is empty."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _flat(f"{name} {key}", part)
    elif value not in (None, "", []):
        yield name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)
