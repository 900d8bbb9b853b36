"""What of a run is published: the files of final/ with their card, proved fit to be shown."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from omr import files, manifest, recipe
from omr.errors import RequestError, listing
from omr.evaluation import evaluation, results
from omr.evaluation.results import ALL, EvalResult
from omr.files import Json
from omr.models import weights
from omr.models.final import card, finish
from omr.models.final.card import Accuracy
from omr.recipe import Run
from omr.reports import journey
from omr.reports.publishing.leaks import Leak, Watch
from omr.run import frozen
from omr.workspace import RunFolder, Workspace, manifest_of

VOCABULARY = ("tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json")
UNEVALUATED = "unevaluated"  # ALLOW: a model whose evaluation is missing


@dataclass(frozen=True)
class Item:
    """A file as it will stand in the repository."""

    name: str
    source: Path | bytes
    size: int  # bytes
    sha256: str

    @classmethod
    def of_text(cls, name: str, text: str) -> "Item":
        """A file that is on no disk."""
        data = text.encode()
        return cls(name, data, len(data), hashlib.sha256(data).hexdigest())

    def text(self) -> str:
        """What people or programs may read in it: of a safetensors file its header."""
        if isinstance(self.source, bytes):
            data = self.source
        elif self.source.suffix == ".safetensors":
            data = weights.shard(self.source).head[8:]
        else:
            data = self.source.read_bytes()
        return data.decode("utf-8", errors="replace")


@dataclass(frozen=True)
class Publication:
    """The files of a final model, and the repository that they are for."""

    repo: str  # owner/name
    title: str  # of the run
    items: list[Item]
    left_out: list[str]  # names in final/ that its manifest does not have

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(item.size for item in self.items)


def prepare(run: Run, workspace: Workspace, repo: str, allow: str | None = None) -> Publication:
    """The files of a run's final model. A RequestError says why they are not to be published.

    `allow` may be UNEVALUATED. Nothing is written, and the hub is not asked.
    """
    folder = workspace.run(run)
    made = manifest.read(folder.final)
    if made is None:
        raise RequestError(
            f"{folder.final}: there is no final model; run make train {recipe.run_words(run)} first"
        )
    _passport(run, workspace)
    found = _evaluated(folder)
    items = [*_unchanged(folder.final, made, recipe.run_words(run)), _card(run, folder, made, found, repo)]
    _refuse_leaks(folder.final, items, Watch.of(workspace))
    if not found and allow != UNEVALUATED:
        raise RequestError(
            f"{folder.eval_json}: has no evaluation of this final model; run make eval"
            f" {recipe.run_words(run)} first, or ALLOW={UNEVALUATED} does without"
        )
    items.sort(key=lambda item: item.name)
    there = sorted(path.name for path in folder.final.iterdir())
    left_out = [n for n in there if n not in made["files"] and n not in (card.FILE, "manifest.json")]
    return Publication(repo, run.title, items, left_out)


def _passport(run: Run, workspace: Workspace) -> None:
    """A RequestError unless every station of the run agrees with itself and the others."""
    _, faults = journey.stations_of(run, workspace)
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise RequestError(f"{faults[0]}{more}; make passport {recipe.run_words(run)} shows every station")


def _evaluated(folder: RunFolder) -> Mapping[str, EvalResult]:
    """What was found of the model that is in final/ now, by mode."""
    now = evaluation.identity(folder.final)
    found = results.read(folder.eval_json)
    return {mode: result for mode, result in found.items() if result.inputs.models.get("after") == now}


def _unchanged(final: Path, made: Json, words: str) -> Iterator[Item]:
    """The files of final/ but for its card, as they were when it was made; another is a RequestError.

    `words` name the run.
    """
    for name, entry in made["files"].items():
        path = final / name
        if name == card.FILE:
            continue
        if not path.is_file() or not _same(path, entry):
            raise RequestError(
                f"{path}: is not as it was made; make average {words} FORCE=1 makes it anew from its steps"
            )
        yield Item(name, path, entry["size"], entry["sha256"])


def _same(path: Path, entry: manifest.FileEntry) -> bool:
    """Whether a file has the bytes of its manifest; it is hashed where it was written to since."""
    info, marked = path.stat(), manifest_of(path.parent).stat().st_mtime_ns
    return info.st_size == entry["size"] and (
        info.st_mtime_ns <= marked or files.sha256(path) == entry["sha256"]
    )


def _card(run: Run, folder: RunFolder, made: Json, found: Mapping[str, EvalResult], repo: str) -> Item:
    """The card with what the evaluation found; a card that its user wrote on stays as it is."""
    path, entry = folder.final / card.FILE, made["files"].get(card.FILE)
    if path.exists() and entry and not _same(path, entry):
        return Item.of_text(card.FILE, path.read_text(encoding="utf-8"))
    began = frozen.need(run, folder)
    data = manifest.read(began.data.path) or {}
    steps = [int(name.removeprefix("step_")) for name in made["averaged"]]
    known = finish.departures(run, began.engine, folder)
    return Item.of_text(card.FILE, card.text(began, data, steps, known, list(accuracies(found)), repo))


def accuracies(found: Mapping[str, EvalResult]) -> Iterator[Accuracy]:
    """The numbers of the final model, by mode and subset; a problem file of one's own by its name alone."""
    for mode, result in found.items():
        benchmark = Path(result.benchmark).name
        scores = result.models["after"].scores
        subsets = {name: one for name, one in scores.items() if name != ALL} or scores
        for subset, one in subsets.items():
            error = None if one.error is None else 100 * one.error
            yield Accuracy(benchmark, subset, mode, "pass@1", 100 * one.pass1, error)
            if one.samples > 1:
                yield Accuracy(benchmark, subset, mode, f"majority@{one.samples}", 100 * one.majority)


def _refuse_leaks(final: Path, items: Iterable[Item], watch: Watch) -> None:
    """A RequestError that names each place where a secret or a name of this machine stands."""
    found = [
        _told(final / item.name, leak)
        for item in items
        for leak in watch.find(item.text(), vocabulary=item.name in VOCABULARY)
    ]
    if found:
        more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
        raise RequestError(
            f"{listing(found[:3], 'and')}{more}; remove it, and make a secret that was there invalid"
        )


def _told(path: Path, leak: Leak) -> str:
    where = "its header" if path.suffix == ".safetensors" else f"line {leak.line}"
    return f"{path}: {where} has {leak.what}"
