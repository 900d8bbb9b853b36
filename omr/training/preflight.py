"""What is proved in seconds before a link of a chain trains: data, base model, image, secrets' file, disk.

Every failure is an OmrError of one line; nothing here writes.
"""

import os
import shutil
import stat
from pathlib import Path

from omr import manifest, recipe, settings
from omr.errors import OmrError
from omr.files import human, sha256
from omr.manifest import Fingerprint
from omr.models import passport
from omr.run import frozen
from omr.run.frozen import BaseModel, TrainingData
from omr.workspace import RunFolder

WHOLE = "whole hash"
# Bytes of a checkpoint per parameter: bf16 weights, fp32 master weights and two moments.
CHECKPOINT_BYTES = 14


def data(wanted: TrainingData, seen: Fingerprint | None, verify: bool) -> str:
    """The training file is the one that was asked for; returns how that was proved.

    `seen` is its fingerprint when it was last known to be right. Sampled
    blocks suffice while the modification time stands; a touched file, or VERIFY=1, has its whole hash taken.
    """
    path = wanted.path
    if not path.exists():
        raise OmrError(f"{path}: the training data is gone; bring it back, or make data again")
    now = manifest.fingerprint(path)
    if now.size != wanted.size:
        raise OmrError(f"{path}: has {now.size} bytes, the run was asked for with {wanted.size}; {_BACK}")
    if seen and now.blocks != seen.blocks:
        raise OmrError(f"{path}: its content changed after the run was submitted; {_BACK}")
    origin = manifest.read(path)
    if origin is None or origin["sha256"] != wanted.sha256:
        raise OmrError(f"{path}: its manifest is not the one the run was asked for with; {_BACK}")
    if verify or seen is None or now.mtime_ns != seen.mtime_ns:
        if sha256(path) != wanted.sha256:
            raise OmrError(f"{path}: its sha256 is not the one in its manifest; {_BACK}")
        return WHOLE
    return "size, time and sampled blocks"


_BACK = "bring the old file back, or start a run of another NAME"


def base(wanted: BaseModel, run: recipe.Run) -> None:
    """The base model's files are those that were made, and agree with each other and with the recipe."""
    folder = wanted.path
    origin = manifest.read(folder)
    if origin is None:
        raise OmrError(f"{folder}: the base model is gone; bring it back, or make model again")
    if file := manifest.changed_file(folder, origin):
        made_by = frozen.run_of(RunFolder(folder.parent)) if run.round.number == 2 else None
        again = f"make average {recipe.run_words(made_by)} FORCE=1" if made_by else "make model"
        raise OmrError(
            f"{file}: is not the file that {folder / 'manifest.json'} lists; {again} makes it again"
        )
    passport.check(folder, run.model, "patched" if run.round.number == 1 else "final")


def disk(folder: Path, model: recipe.Model) -> None:
    """Room for two more checkpoints: one being saved, one more before anybody looks."""
    need = 2 * int(model.parameters * CHECKPOINT_BYTES)
    free = shutil.disk_usage(folder).free
    if free < need:
        raise OmrError(
            f"{folder}: {human(free)} are free, two checkpoints of {model.name} need {human(need)};"
            " make room (make prune lists what may go)"
        )


def secrets_file() -> None:
    """A .env that holds secrets is readable by its owner alone."""
    path = settings.env_file()
    if not path.exists():
        return
    named = [name for name in settings.read(path) if settings.is_secret(name)]
    if named and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise OmrError(f"{path}: holds {named[0]} and can be read by others; run chmod 600 {path}")


def image(container: str | None) -> None:
    """A container image given as a path is there; one in a registry is Slurm's to fetch."""
    if container and container.startswith(("/", ".", "~")) and not Path(container).expanduser().exists():
        raise OmrError(f"CONTAINER={container}: there is no such image; make sqsh writes it")


def canary(folder: Path, token: str) -> Path:
    """A file in the run folder that every node has to read: proof that they share it."""
    path = folder / ".canary"
    path.write_text(token + "\n")
    with path.open() as handle:
        os.fsync(handle.fileno())
    return path
