"""The base model: brought whole, patched where the recipe has it, proved, and written down."""

import shlex
import shutil
from collections.abc import Callable
from fnmatch import fnmatchcase
from math import prod
from pathlib import Path

from omr import files, manifest
from omr.errors import OmrError, RequestError
from omr.models import passport, rope, weights
from omr.progress import Progress
from omr.recipe import LONG_CONTEXT, Model
from omr.tiny import model as tiny_model
from omr.workspace import Workspace

# Weights, configuration, tokenizer and licence; neither pickles nor anybody's code.
PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.jinja", "LICENSE*")
Download = Callable[..., dict[str, dict]]


def inputs(model: Model, base: Path | None) -> dict:
    """What decides the folder's content, for its manifest."""
    if base:
        source = {"copy": str(base.absolute())}
    elif model.base:
        source = {"repo": model.base.repo, "revision": model.base.revision}
    else:
        source = {"made by": "omr/tiny/model.py", "seed": 0}
    return {"model": model.name, "source": source, "patched": model.patched}


def finished(model: Model, workspace: Workspace, base: Path | None, force: bool = False) -> dict | None:
    """The manifest of a model that is there already; None if there is work to do.

    A copy that BASE once named stays good when BASE is no longer said.
    """
    folder, wanted = workspace.model(model.name), inputs(model, base)
    made = None if force else manifest.read(folder)
    if made and base is None and "copy" in made["inputs"]["source"]:
        wanted["source"] = made["inputs"]["source"]
    return manifest.finished(folder, wanted, force)


def make(
    model: Model, workspace: Workspace, download: Download, *, base: Path | None = None, force: bool = False
) -> dict:
    """Bring, patch and prove models/<model>; returns its manifest.

    `download` is omr.hub's. What has arrived stays for the next run; nothing stands under the final
    name before all of it is proved.
    """
    if made := finished(model, workspace, base, force):
        return made
    folder = workspace.model(model.name)
    aside = folder.with_name(f".{folder.name}.partial")
    with files.lock(folder.with_name(f".{folder.name}.lock"), str(folder)):
        aside.mkdir(parents=True, exist_ok=True)
        known = bring(model, aside, download, base)
        parts = weights.shards(aside)
        _size(aside, parts, model)
        published = passport.check(aside, model, "published")
        changes = rope.patch(aside / "config.json") if model.patched else []
        rope.prove(aside, model)
        patched = passport.check(aside, model, "patched", ("published", published))
        for note in aside.glob(".*"):
            note.unlink()  # the download's own
        manifest.write(
            aside,
            inputs(model, base),
            files=listed(aside, {n: known[n] for n in known if n != "config.json"}),
            patch=changes,
            tensors=sum(len(part.tensors) for part in parts),
            passport={"published": published, "patched": patched},
            versions=manifest.versions("transformers", "huggingface_hub"),
        )
        files.install(aside, folder)
    return manifest.read(folder)


def plan(
    model: Model, workspace: Workspace, command: Callable[..., str], base: Path | None = None
) -> list[str]:
    """The shell commands that do the same by hand; `command` is omr.hub's."""
    folder = workspace.model(model.name)
    if base:
        lines = [shlex.join(["cp", "-r", str(base), str(folder)])]
    elif model.base:
        lines = [command(model.base, "model", PATTERNS, folder)]
    else:
        lines = [f"# omr/tiny/model.py writes {folder}"]
    if model.patched:
        published = {key: float(old) for key, (old, _) in LONG_CONTEXT.items()}
        words = [word for expression in rope.sed(published) for word in ("-e", expression)]
        lines.append(shlex.join(["sed", "-i", "-E", "-z", *words, str(folder / "config.json")]))
    return lines


def summary(made: dict) -> str:
    """A manifest in one line: bytes, tensors, the patch."""
    size = files.human(sum(entry["size"] for entry in made["files"].values()))
    patch = made["patch"] or (["patched already"] if made["inputs"]["patched"] else ["not to be patched"])
    return f"{size}, {made['tensors']} tensors; {', '.join(patch)}"


def bring(model: Model, aside: Path, download: Download, base: Path | None) -> dict[str, dict]:
    """Put the published files into `aside`; returns the sizes and hashes that are known already."""
    if base:
        return _copy(model, base, aside)
    if model.base:
        advice = "set BASE= to a local copy"
        return download(model.base, "model", PATTERNS, aside, advice=advice)
    shutil.rmtree(aside)
    tiny_model.write_base(aside)
    return {}


def _size(folder: Path, parts: list[weights.Shard], model: Model) -> None:
    """An OmrError for a model of another size: rates and parallel sizes are the row's."""
    count = sum(prod(tensor.shape) for part in parts for tensor in part.tensors)
    if not 2 / 3 < count / model.parameters < 3 / 2:
        name = model.base.repo if model.base else "the tiny model"
        here, wanted = f"{count / 1e9:.1f}", f"{model.parameters / 1e9:.1f}"
        raise OmrError(
            f"{folder}: has {here} billion parameters, {model.name} has {wanted}; name a copy of {name}"
        )


def _copy(model: Model, base: Path, aside: Path) -> dict[str, dict]:
    """A local copy: whole, of the row's model, and without anything that runs; proved before it is copied."""
    config = base / "config.json"
    if not config.is_file():
        raise RequestError(f"BASE={base} has no config.json; name the folder of a downloaded model")
    said = rope.parse(config)
    if "auto_map" in said:
        raise OmrError(f"{config}: has auto_map, code of its own; the recipe's models have none")
    parts = weights.shards(base)
    _size(base, parts, model)
    passport.check(base, model, "published")
    if model.patched:
        rope.patchable(config, said)
    else:
        rope.check(base, model)
    side = weights.side_files(base)
    index = [base / weights.INDEX] if (base / weights.INDEX).exists() else []
    shutil.rmtree(aside)
    aside.mkdir()
    files.need_space(aside, sum(part.size for part in parts), f"the copy of {base}")
    progress = Progress(f"copying {base}", sum(part.size for part in parts))
    for path in [*side, *index, *(part.path for part in parts)]:
        shutil.copyfile(path, aside / path.name)
        if path.suffix == ".safetensors":
            progress.add(path.stat().st_size)
    progress.close()
    return {}


def listed(folder: Path, known: dict[str, dict], patterns: tuple[str, ...] = ("*",)) -> dict[str, dict]:
    """Size and sha256 of every file that matches, for a manifest; `known` ones are not read again."""
    files_ = (p.name for p in folder.iterdir() if p.is_file() and p.name != "manifest.json")
    names = sorted(name for name in files_ if any(fnmatchcase(name, pattern) for pattern in patterns))
    return {
        name: known.get(name)
        or {"size": (folder / name).stat().st_size, "sha256": files.sha256(folder / name)}
        for name in names
    }
