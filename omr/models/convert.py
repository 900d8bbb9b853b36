"""Convert checkpoints of either engine to Hugging Face format: checkpoints/step_<n> -> hf/step_<n>.

NeMo-RL's checkpoints go through its own converter for Megatron's (a GPU job in the training image); those of
the one-box engine are Hugging Face folders already and are copied, as is what NeMo-Skills' jobs converted
(LAUNCHER=ns). Each result has rope_theta in both places where a version of transformers looks for it
(omr/models/rope.py).
"""

import contextlib
import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

from omr import files, manifest, records
from omr.errors import OmrError, RequestError, listing
from omr.models import passport, rope, tokens, weights
from omr.models.passport import Station
from omr.recipe import Run
from omr.run import checkpoints, frozen
from omr.run.frozen import FrozenRun
from omr.run.nemo_rl_version import PINNED_VERSION, nemo_rl_folder
from omr.workspace import RunFolder, Workspace

NS_STEP = "hf_model_step_"  # in the checkpoints' folder: a step that NeMo-Skills' jobs converted
# In the conversion cache once it is whole; omr/training/nemo_rl/driver.py writes it.
CONVERTED = "converted.json"


class Inputs(TypedDict):
    """What decides a converted step."""

    checkpoint: dict[str, list[int | str]]  # file of weights -> its size and `files.digest_of_ends`


def checkpoint(folder: RunFolder, step: int) -> Path:
    """The folder of a step's finished checkpoint; an OmrError says what is there instead."""
    path = folder.checkpoint(step)
    if path.is_dir():
        return path
    for half, why in (
        ("tmp_", "was still being saved"),
        ("old_", "was being replaced"),
        ("damaged_", "is damaged"),
    ):
        if path.with_name(half + path.name).exists():
            raise OmrError(
                f"{path}: is missing, only {half}{path.name} is there, which {why}; train on first"
            )
    there = listing([f"step_{n}" for n in checkpoints.steps(folder.checkpoints)], "and") or "none"
    raise OmrError(f"{path}: is missing (there: {there}); train on until step {step} first")


def inputs(path: Path) -> Inputs:
    """What decides the step converted from the checkpoint `path`."""
    parts = [
        p for p in sorted(path.rglob("*")) if p.suffix in (".safetensors", ".distcp") or p.name == ".metadata"
    ]
    return {
        "checkpoint": {str(p.relative_to(path)): [p.stat().st_size, files.digest_of_ends(p)] for p in parts}
    }


def finished(folder: RunFolder, step: int, source: Path | None = None) -> bool:
    """Whether hf/step_<n> is whole and made from the checkpoint (or `source`), as far as that is there."""
    made, source = manifest.read(folder.hf_step(step)), source or folder.checkpoint(step)
    if made is None or (source.is_dir() and made["inputs"] != inputs(source)):
        return False
    return not source.is_dir() or manifest.changed_file(folder.hf_step(step), made) is None


def from_trl(run: Run, workspace: Workspace, steps: Sequence[int] | None = None) -> list[Path]:
    """Copy the averaged steps (or `steps` of them) of the one-box engine to hf/; returns those made anew."""
    folder = workspace.run(run)
    began = frozen.need(run, folder)
    todo = [step for step in steps or run.schedule.averaged if not finished(folder, step)]
    sources = {step: checkpoint(folder, step) for step in todo}
    for step, source in sources.items():
        if fault := checkpoints.damage(source, "trl"):
            raise OmrError(f"{source}: is damaged ({fault}); run make train again")
        _copy(run, folder, step, source, began)
    return [folder.hf_step(step) for step in todo]


def ns_step(folder: RunFolder, step: int) -> Path:
    """Where NeMo-Skills' jobs leave a step that they converted."""
    return folder.checkpoints / f"{NS_STEP}{step}"


def left_by_ns(folder: RunFolder) -> bool:
    """Whether NeMo-Skills' jobs have converted a step of this run."""
    return any(folder.checkpoints.glob(f"{NS_STEP}*"))


def from_ns(run: Run, workspace: Workspace) -> list[Path]:
    """Copy the averaged steps that NeMo-Skills' jobs converted to hf/; returns those made anew.

    An OmrError, before anything is copied, where one of them is not there under its exact name.
    """
    folder = workspace.run(run)
    began = frozen.need(run, folder)
    sources = {step: ns_step(folder, step) for step in run.schedule.averaged}
    sources = {step: path for step, path in sources.items() if not finished(folder, step, path)}
    missing = [path.name for path in sources.values() if not (path / passport.CONFIG).exists()]
    if missing:
        there = sorted(path.name for path in folder.checkpoints.glob(f"{NS_STEP}*"))
        raise OmrError(
            f"{folder.checkpoints}: {listing(missing, 'and')} {'are' if len(missing) > 1 else 'is'} missing"
            f" (there: {listing(there, 'and') or 'none'}); run make train LAUNCHER=ns again: its jobs convert"
        )
    for step, source in sources.items():
        _copy(run, folder, step, source, began)
    return [folder.hf_step(step) for step in sources]


def _copy(run: Run, folder: RunFolder, step: int, source: Path, began: FrozenRun) -> None:
    """A folder that is in Hugging Face format already as hf/step_<n>."""
    base = began.base.path
    parts = weights.shards(source, safe_only=False)
    files.need_space(folder.root, sum(part.size for part in parts), str(folder.hf_step(step)))
    with _building(folder, step) as aside:
        for path in weights.model_files(source, parts):
            shutil.copyfile(path, aside / path.name)
        before = Station(base.name, passport.read(base)) if base.is_dir() else None
        finish_step(run, aside, inputs(source), before)


@contextlib.contextmanager
def _building(folder: RunFolder, step: int) -> Iterator[Path]:
    """The folder that becomes hf/step_<n>; what an earlier attempt left is removed."""
    with (
        files.lock(folder.hf / f".step_{step}.lock", str(folder.hf_step(step))),
        files.building(folder.hf_step(step)) as aside,
    ):
        yield aside


def finish_step(run: Run, aside: Path, origin: Inputs, before: Station | None = None) -> None:
    """Complete a freshly converted folder: what each transformers reads, the passport's checks, the manifest.

    `before` is the base model that the run started from.
    """
    rope.write_both(aside, run.model)
    tokens.write_old_name(aside)
    facts = passport.check(aside, run.model, "step", before)
    # The average hashes no file again that still has this fingerprint.
    seen = manifest.fingerprints(aside)
    manifest.write(aside, origin, files=manifest.entries(aside), seen=seen, passport=facts)


def from_nemo_rl(run: Run, workspace: Workspace, step: int) -> bool:
    """Convert one averaged step with NeMo-RL's own script, in its image; whether there was work to do.

    A half-written output is replaced. An OmrError for a step that is absent, still being saved or damaged,
    and for a base model that is gone or not patched: the script reads config and tokenizer there.
    """
    folder = workspace.run(run)
    if step not in run.schedule.averaged:
        wanted = listing(map(str, run.schedule.averaged))
        raise RequestError(f"step {step} of {run.title} is not averaged; choose {wanted}")
    if finished(folder, step):
        return False
    source = checkpoint(folder, step)
    if fault := checkpoints.damage(source, "nemo-rl"):
        raise OmrError(f"{source}: is damaged ({fault}); train again from the checkpoint before it")
    before = _base(run, source)
    with _building(folder, step) as aside:
        aside.rmdir()  # the converters refuse a folder that is there
        code = subprocess.run(
            command(folder, step, aside), cwd=nemo_rl_folder(), stdin=subprocess.DEVNULL
        ).returncode
        if code or not (aside / "config.json").exists():
            raise OmrError(
                f"{source}: the converter failed (exit code {code}); read its output above, then run again"
            )
        finish_step(run, aside, inputs(source), before)
    return True


def _base(run: Run, source: Path) -> Station:
    """The base model that a NeMo-RL checkpoint names; the converter reads config and tokenizer there."""
    path = source / "config.yaml"
    remedy = "this is no checkpoint of NeMo-RL"
    with records.checked(path, remedy):
        base = records.of(Path, records.read_yaml(path, remedy)["policy"]["model_name"], "policy.model_name")
    if not (base / "config.json").exists():
        raise OmrError(f"{base}: is gone, and the converter reads config and tokenizer there; make it again")
    rope.check(base, run.model)
    return Station(base.name, passport.read(base))


def command(folder: RunFolder, step: int, out: Path) -> list[str]:
    """The converter's command line for a checkpoint, to be run in NeMo-RL's folder; `out` must not exist.

    An OmrError for a checkpoint of another backend: the pinned version's converter for DTensor refuses the
    safetensors files that its DTensor saves.
    """
    source = checkpoint(folder, step)
    saved = source / PINNED_VERSION.weights
    if not saved.is_dir():
        raise OmrError(f"{source}: is no checkpoint of Megatron (no {saved.name}); train with Megatron")
    return [
        *("uv", "run", "--extra", PINNED_VERSION.converter_extra, "python", PINNED_VERSION.converter),
        *("--config", str(source / "config.yaml"), "--hf-ckpt-path", str(out)),
        *("--megatron-ckpt-path", str(saved)),
    ]


def cache(workspace: Workspace, base: Path) -> Path:
    """The folder for NRL_MEGATRON_CHECKPOINT_DIR: another one for each content of a base model.

    NeMo-RL keeps its converted copy by the model's path alone: after a later patch, or with another model at
    the same path, it would train on the old weights without a word.
    """
    origin = manifest.read(base)
    if origin is None:
        raise RequestError(f"{base}: is not a finished model; make it first")
    names = [
        n
        for n in sorted(origin["files"])
        if n in ("config.json", weights.INDEX) or n.endswith(".safetensors")
    ]
    text = json.dumps([[name, origin["files"][name]["sha256"]] for name in names])
    return workspace.root / "cache" / "megatron" / hashlib.sha256(text.encode()).hexdigest()[:16]


def cached(cache: Path) -> bool:
    """Whether a run has used this cache, and none of its files was lost or cut short since."""
    try:
        made = records.of(dict[str, int], json.loads(records.read_text(cache / CONVERTED))["files"])
        return all((cache / records.inside(name)).stat().st_size >= size for name, size in made.items())
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
