"""The base model of a recipe row: brought, patched for long context if the recipe says so, and verified."""

import json
import shlex
import shutil
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import TypedDict

from omr import files, manifest, recipe
from omr.errors import OmrError, RequestError
from omr.manifest import FileEntry
from omr.models import passport, rope, tokens, weights
from omr.models.passport import Entries, Station
from omr.progress import Progress
from omr.recipe import Model
from omr.tiny import model as tiny_model
from omr.workspace import Workspace

# Weights, configuration, tokenizer and licence; no pickles and no code.
PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.jinja", "LICENSE*")
Download = Callable[..., dict[str, FileEntry]]  # omr.models.hub.download, or a test's


class Inputs(TypedDict):
    """What decides the content of models/<model>."""

    model: str
    source: dict[str, str | int]  # `copy`: a folder; or `repo` and `revision`; or `made by` and `seed`
    patched: bool


class Manifest(TypedDict):
    """What manifest.json of models/<model> says, beside the code and the command that made it."""

    inputs: Inputs
    files: dict[str, FileEntry]
    patch: list[str]  # what the long-context patch changed: `rope_theta 10000 -> 500000.0`
    tensors: int
    passport: dict[str, Entries]  # of the files as published, and patched
    copied: dict[str, dict[str, int | str]]  # files of BASE: the fingerprint and sha256 of each
    seen: dict[str, dict[str, int | str]]  # the weights' fingerprints
    versions: dict[str, str]


def local(model: Model, base: Path | None) -> Path | None:
    """The folder that the model is copied from: BASE, else the recipe's; None where it is brought."""
    return base or recipe.of_model(model).folders.get(model.name)


def inputs(model: Model, base: Path | None) -> Inputs:
    """What decides the folder's content, for its manifest; `base` is the local copy that BASE names."""
    if base := local(model, base):
        source = {"copy": str(base.absolute())}
    elif model.base:
        source = {"repo": model.base.repo, "revision": model.base.revision}
    else:
        source = {"made by": "omr/tiny/model.py", "seed": 0}
    own = {} if model.corpus in recipe.SHIPPED else {"context": recipe.context(model)}
    return json.loads(json.dumps({"model": model.name, "source": source, "patched": model.patched, **own}))


def finished(model: Model, workspace: Workspace, base: Path | None, force: bool = False) -> Manifest | None:
    """The manifest of a model that is there already; None if there is work to do.

    A model that was copied from BASE stays finished when BASE is not given again, and so does one whose
    recipe's folder is gone. A RequestError where the folder is there, and another model stands in it now.
    """
    folder, wanted = workspace.model(model.folder), inputs(model, base)
    made = None if force else manifest.read(folder)
    if made and base is None and "copy" in made["inputs"]["source"]:
        wanted["source"] = made["inputs"]["source"]
    made = manifest.finished(folder, wanted, force, otherwise="")
    if made and manifest.changed_file(folder, made):
        return None  # damaged since: made again
    there = local(model, base)
    if made and made.get("copied") and there and (base or there.is_dir()):
        _refuse_other_content(folder, there, made["copied"])
    return made


def make(
    model: Model, workspace: Workspace, download: Download, *, base: Path | None = None, force: bool = False
) -> Manifest:
    """Bring, patch and verify models/<model>; returns its manifest.

    Nothing stands under the final name before all of it is verified; what has arrived by then stays for the
    next attempt.
    """
    if made := finished(model, workspace, base, force):
        return made
    folder = workspace.model(model.folder)
    aside = folder.with_name(f".{folder.name}.partial")
    with files.lock(folder.with_name(f".{folder.name}.lock"), str(folder)):
        aside.mkdir(parents=True, exist_ok=True)
        known = _bring(model, aside, download, base)
        parts = weights.shards(aside)
        _check_size(aside, parts, model)
        published = passport.check(aside, model, "published")
        copied = {}
        if there := local(model, base):
            known = manifest.entries(aside)
            copied = {
                name: {**manifest.fingerprint(there / name).as_json(), "sha256": entry["sha256"]}
                for name, entry in known.items()
            }
        changes = rope.patch(aside / "config.json", model) if model.patched else []
        known.pop("config.json", None)
        if weights.complete_index(aside, parts):
            known.pop(weights.INDEX, None)
        rope.prove(aside, model)
        _prove(aside)
        patched = passport.check(aside, model, "patched", Station("published", published))
        for notes in aside.glob(".*"):  # of the download
            shutil.rmtree(notes) if notes.is_dir() else notes.unlink()
        manifest.write(
            aside,
            inputs(model, base),
            files=manifest.entries(aside, known),
            patch=changes,
            tensors=sum(len(part.tensors) for part in parts),
            passport={"published": published, "patched": patched},
            copied=copied,
            seen=manifest.fingerprints(aside),
            versions=manifest.versions("transformers", "huggingface_hub"),
        )
        files.install(aside, folder)
    return manifest.read(folder)


def _refuse_other_content(folder: Path, base: Path, copied: dict[str, dict[str, int | str]]) -> None:
    """A RequestError where BASE's files are no longer those that were copied.

    One whose size, time or sampled blocks differ is hashed before it is believed to be another.
    """
    for path in weights.model_files(base, weights.shards(base)):
        seen = copied.get(path.name, {})
        now = manifest.fingerprint(path).as_json()
        if now | {"sha256": seen.get("sha256")} != seen and files.sha256(path) != seen.get("sha256"):
            raise RequestError(
                f"{folder}: was made from another {path.name} than now stands in {base};"
                " FORCE=1 makes it anew"
            )


def plan(
    model: Model, workspace: Workspace, command: Callable[..., str], base: Path | None = None
) -> list[str]:
    """The shell commands that do the same by hand; `command` is omr.models.hub's."""
    folder = workspace.model(model.folder)
    if there := local(model, base):
        lines = [shlex.join(["cp", "-r", str(there), str(folder)])]
    elif model.base:
        lines = [command(model.base, "model", PATTERNS, folder)]
    else:
        lines = [f"# omr/tiny/model.py writes {folder}"]
    if model.patched:
        published = {key: float(old) for key, (old, _) in recipe.context(model).items()}
        words = [word for expression in rope.sed(published, model) for word in ("-e", expression)]
        lines.append(shlex.join(["sed", "-i", "-E", "-z", *words, str(folder / "config.json")]))
    return lines


def summary(made: Manifest) -> str:
    """A manifest in one line: bytes, tensors, the patch, and a head that is stored though it is tied."""
    size = files.human(sum(entry["size"] for entry in made["files"].values()))
    patch = made["patch"] or (["patched already"] if made["inputs"]["patched"] else ["not to be patched"])
    facts = made["passport"]["published"]
    head = "; lm_head.weight is stored, equal to the embedding that it is tied to"
    tied = head if facts["tie_word_embeddings"] and facts["head"] else ""
    return f"{size}, {made['tensors']} tensors; {', '.join(patch)}{tied}"


def _bring(model: Model, aside: Path, download: Download, base: Path | None) -> dict[str, FileEntry]:
    """Put the published files into `aside`; returns the sizes and hashes that are known already."""
    if there := local(model, base):
        _copy(model, there, aside)
        return {}
    if model.base:
        return download(model.base, "model", PATTERNS, aside, advice="set BASE= to a local copy")
    shutil.rmtree(aside)
    tiny_model.write_base(aside, made=recipe.of_model(model), name=model.name)
    return {}


def _prove(folder: Path) -> None:
    """An OmrError unless the installed transformers takes tokenizer and generation config."""
    from transformers import AutoTokenizer, GenerationConfig

    where = str(folder)
    rope.taken(folder / tokens.FILE, lambda: AutoTokenizer.from_pretrained(where, trust_remote_code=False))
    if (folder / passport.GENERATION).exists():
        rope.taken(folder / passport.GENERATION, lambda: GenerationConfig.from_pretrained(where))


def _check_size(folder: Path, parts: list[weights.Shard], model: Model) -> None:
    """An OmrError for a model of another size than the row's, which its rates and parallel sizes are for."""
    count = sum(prod(tensor.shape) for part in parts for tensor in part.tensors)
    if not 2 / 3 < count / model.parameters < 3 / 2:
        name = model.base.repo if model.base else "the tiny model"
        here, wanted = f"{count / 1e9:.1f}", f"{model.parameters / 1e9:.1f}"
        raise OmrError(
            f"{folder}: has {here} billion parameters, {model.name} has {wanted}; name a copy of {name}"
        )


def _copy(model: Model, base: Path, aside: Path) -> None:
    """Copy a local model, once it is known to be whole, of the row's model, and free of code."""
    config = base / "config.json"
    if not config.is_file():
        raise RequestError(f"BASE={base} has no config.json; name the folder of a downloaded model")
    if base.resolve().is_relative_to(aside.resolve()):
        raise RequestError(f"BASE={base} is what an earlier try left; unset BASE, or name another folder")
    settings = rope.parse(config)
    parts = weights.shards(base)
    _check_size(base, parts, model)
    passport.check(base, model, "published")
    if model.patched:
        rope.patchable(config, settings, model)
    else:
        rope.check(base, model)
    shutil.rmtree(aside)
    aside.mkdir()
    files.need_space(aside, sum(part.size for part in parts), f"the copy of {base}")
    progress = Progress(f"copying {base}", sum(part.size for part in parts))
    for path in weights.model_files(base, parts):
        shutil.copyfile(path, aside / path.name)
        if path.suffix == ".safetensors":
            progress.add(path.stat().st_size)
    progress.close()
