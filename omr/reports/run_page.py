"""One page about a run: its data, how it trained, how well it answers, and where everything came from."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from omr import manifest
from omr.errors import RequestError
from omr.files import human, read_json, write_text
from omr.recipe import Run
from omr.reports import data_report, pages
from omr.run import metrics
from omr.workspace import RunFolder, manifest_of

CURVES = {"loss": "Training loss", "lr": "Learning rate", "tokens_per_second": "Tokens per second"}


def sources(folder: RunFolder) -> list[Path]:
    """The files that a page is made from, those that are there."""
    request = read_json(folder.run_json)["request"]
    wanted = [
        folder.run_json,
        manifest_of(Path(request["data"]["path"])),
        data_report.beside(Path(request["data"]["path"])),
        manifest_of(Path(request["base"]["path"])),
        folder.metrics,
        folder.eval_json,
        manifest_of(folder.final),
    ]
    return [path for path in wanted if path.exists()]


def fingerprint(folder: RunFolder) -> str:
    """Hex digest of the page's sources and of the code that draws it."""
    digest = hashlib.sha256()
    for path in [*sources(folder), Path(__file__), Path(pages.__file__), pages.TEMPLATE]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def write(run: Run, folder: RunFolder, force: bool = False) -> bool:
    """Write report.html; False when the one that is there was made from the same files."""
    if not folder.run_json.exists():
        words = f"MODEL={run.model.name} ROUND={run.round.number}"
        raise RequestError(f"{folder.root}: there is no such run yet; run make train {words} first")
    mark = f"sources {fingerprint(folder)}"
    if not force and folder.report.exists() and mark in folder.report.read_text(encoding="utf-8")[-200:]:
        return False
    text = pages.render(f"{run.title}: OpenMathReasoning SFT", lead(folder), list(sections(folder)))
    write_text(folder.report, f"{text.rstrip()}\n<!-- {mark} -->\n")
    return True


def lead(folder: RunFolder) -> str:
    """The run in a sentence: how far it is, and accuracy before and after."""
    done = manifest.read(folder.final) is not None
    steps = read_json(folder.run_json)["request"]["recipe"]["schedule"]["steps"]
    at = max((row["step"] for row in metrics.read(folder.metrics)), default=0)
    text = f"Trained {steps:,} steps and averaged." if done else f"At step {at:,} of {steps:,}, not finished."
    if accuracy := accuracies(folder):
        before, after, problems = accuracy
        text += f" Accuracy on {problems} held-out problems: {before:.3f} before, {after:.3f} after."
    return text


def accuracies(folder: RunFolder) -> tuple[float, float, int] | None:
    """Accuracy before and after the run, and the number of problems; None before `make eval`."""
    if not folder.eval_json.exists():
        return None
    graded = read_json(folder.eval_json)
    return graded["before"]["accuracy"], graded["after"]["accuracy"], graded["after"]["problems"]


def sections(folder: RunFolder) -> Iterator[pages.Section]:
    """Data, training, accuracy, provenance: as much of it as there is."""
    request = read_json(folder.run_json)["request"]
    data = Path(request["data"]["path"])
    origin = read_json(manifest_of(data)) if manifest_of(data).exists() else {}
    yield _data(data, origin, request)
    if data_report.beside(data).exists():
        yield data_report.section(read_json(data_report.beside(data)))
    yield _training(request, metrics.read(folder.metrics))
    yield _accuracy(folder)
    yield pages.Section("Provenance", rows=list(_provenance(folder, request, origin)))


def _data(path: Path, origin: dict, request: dict) -> pages.Section:
    """Rows per split, what the round's filter dropped and why, and how often training sees each row."""
    rows = []
    for split, counts in origin.get("splits", {}).items():
        dropped = [f"{n:,} {why}" for why, n in {**counts["dropped"], **counts["rejected"]}.items()]
        rows.append([split, f"{counts['read']:,}", f"{counts['kept']:,}", ", ".join(dropped)])
    seen = request["recipe"]["schedule"]["steps"] * request["recipe"]["model"]["batch"]
    total = request["limit"] or request["data"]["rows"]
    text = (
        f"{path.name}: {request['data']['rows']:,} rows, {human(request['data']['size'])}."
        f" Training sees {seen:,} rows, each {seen / total:.2f} times."
    )
    return pages.Section("Data", text, ["split", "rows", "kept", "dropped"], rows)


def _accuracy(folder: RunFolder) -> pages.Section:
    if not folder.eval_json.exists():
        return pages.Section("Accuracy", text="Not evaluated yet: make eval.")
    graded = read_json(folder.eval_json)
    rows = [
        [when, f"{part['accuracy']:.3f}", part["correct"], part["problems"]]
        for when, part in ((when, graded[when]) for when in ("before", "after"))
    ]
    return pages.Section("Accuracy", header=["", "accuracy", "correct", "problems"], rows=rows)


def _training(request: dict, steps: list[dict]) -> pages.Section:
    recipe, plan = request["recipe"]["model"], request["recipe"]["schedule"]
    text = (
        f"{plan['steps']:,} steps of {recipe['batch']:,} rows; learning rate {recipe['lr']:g} after"
        f" {plan['warmup']:,} steps of warmup, by cosine to {recipe['min_lr']:g};"
        f" checkpoints {', '.join(f'{n:,}' for n in plan['averaged'])} are averaged."
    )
    figures = []
    for key, caption in CURVES.items():
        points = [(row["step"], row[key]) for row in steps if key in row]
        if len(points) > 1:
            xs, ys = zip(*points, strict=True)
            figures.append(pages.lines({key: (xs, ys)}, "step", key.replace("_", " "), caption))
    return pages.Section("Training", text=text, figures=figures)


def _provenance(folder: RunFolder, request: dict, data: dict) -> Iterator[tuple[str, str]]:
    """Flat name -> value lines of everything that decided the result."""
    frozen = read_json(folder.run_json)
    yield "run folder", str(folder.root)
    yield "code", frozen["code"]
    yield "command", frozen["command"]
    yield from _flat("data", {**request["data"], **data.get("inputs", {})})
    yield from _flat("base", request["base"])
    final = manifest.read(folder.final) or {}
    yield from _flat("final", {**final.get("inputs", {}), "weights": weights(final)})
    yield from _flat("versions", final.get("versions", {}))


def weights(origin: dict) -> dict[str, str]:
    """Name -> sha256 of a model's safetensors, from its manifest."""
    files = origin.get("files", {})
    return {name: entry["sha256"] for name, entry in files.items() if name.endswith(".safetensors")}


def _flat(name: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _flat(f"{name} {key}", part)
    elif value not in (None, "", []):
        yield name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)
