"""Checkpoints of an engine that does not list what it wrote: sealed by us before they get their final name.

NeMo-RL renames tmp_step_<n> to step_<n> without a sync and resumes from the highest number, whole or not.
omr/training/nemo_rl/driver.py seals a checkpoint while it is still called tmp; a link mends the folder before
it starts the engine. Standard library only: the driver imports this in the engine's own environment.
"""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

SEAL = "omr_seal.json"
SMALL = 1 << 20  # files up to 1 MiB are hashed whole, larger ones by their first and last block
BLOCK = 64 * 1024
# Without a seal (a checkpoint that our driver did not write) these at least must be there.
PARTS = ("training_info.json", "config.yaml", "train_dataloader.pt", "policy/weights/iter_0000000/.metadata")


def digest(path: Path) -> str:
    """Hash of a small file, or of a large one's ends."""
    size = path.stat().st_size
    with path.open("rb") as handle:
        if size <= SMALL:
            return hashlib.sha256(handle.read()).hexdigest()
        head = handle.read(BLOCK)
        handle.seek(size - BLOCK)
        return hashlib.sha256(head + handle.read(BLOCK)).hexdigest()


def owner(checkpoints: Path) -> str | None:
    """Which run's folder this is: a digest of its frozen request; None where nothing is frozen."""
    frozen = checkpoints.parent / "run.json"
    if not frozen.exists():
        return None
    request = json.loads(frozen.read_text())["request"]
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def seal(folder: Path) -> None:
    """List every file of a finished checkpoint with its size and digest, and sync them all."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SEAL):
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
        files[str(path.relative_to(folder))] = {"size": path.stat().st_size, "digest": digest(path)}
    aside = folder / f".{SEAL}"
    with aside.open("w") as handle:
        json.dump({"run": owner(folder.parent), "files": files}, handle)
        handle.flush()
        os.fsync(handle.fileno())
    aside.replace(folder / SEAL)


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, in a few words; None when it is whole."""
    try:
        sealed = json.loads((folder / SEAL).read_text())
        listed, run = sealed["files"], sealed["run"]
    except FileNotFoundError:
        missing = [name for name in PARTS if not (folder / name).exists()]
        return f"{missing[0]} is missing" if missing else None
    except (ValueError, KeyError, TypeError):
        return f"{SEAL} is damaged"
    if run != owner(folder.parent):
        # Training would go on from its step, and be complete at once.
        return "it belongs to another run"
    for name, facts in listed.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != facts["size"]:
            return f"{name} has {path.stat().st_size} bytes of {facts['size']}"
        if digest(path) != facts["digest"]:
            return f"{name} has other content than was saved"
    return None


def steps(checkpoints: Path) -> list[int]:
    """Numbers of the folders called step_<n>, whole or not."""
    names = [p.name for p in checkpoints.iterdir()] if checkpoints.is_dir() else []
    return sorted(int(m[1]) for m in (re.fullmatch(r"step_(\d+)", name) for name in names) if m)


def whole(checkpoints: Path) -> list[int]:
    """Numbers of the whole checkpoints."""
    return [n for n in steps(checkpoints) if damage(checkpoints / f"step_{n}") is None]


def mend(checkpoints: Path) -> list[str]:
    """Leave the newest whole checkpoint as the highest number; say what was done, a line each.

    A kill between NeMo-RL's two renames leaves old_step_<n> alone: it gets its name back. What was being
    saved is removed; a damaged checkpoint is set aside under another name.
    """
    if not checkpoints.is_dir():
        return []
    said = []
    for path in sorted(checkpoints.glob("old_step_*")):
        final = checkpoints / path.name.removeprefix("old_")
        if not final.exists():
            path.rename(final)
            said.append(f"{final.name} was being replaced when it was killed: the old one is back")
        else:
            shutil.rmtree(path, ignore_errors=True)
    for path in sorted(checkpoints.glob("tmp_step_*")):
        shutil.rmtree(path, ignore_errors=True)
        said.append(f"{path.name} was never finished: removed")
    for number in steps(checkpoints):
        folder = checkpoints / f"step_{number}"
        if fault := damage(folder):
            aside = checkpoints / f"damaged_step_{number}"
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
            said.append(f"step_{number} is damaged ({fault}): set aside as {aside.name}")
    return said
