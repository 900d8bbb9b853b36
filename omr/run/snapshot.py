"""The toolkit's own files: which state of them this is, and the copy that a run keeps of them."""

import functools
import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from omr import settings
from omr.errors import OmrError
from omr.files import building

CODE = ("bin", "docker", "omr", "slurm", "pyproject.toml", "LICENSE")  # what decides what a stage does
_LEFT = re.compile(r"(^|/)(__pycache__/|\.)|~$")  # what Python and editors leave behind
SHORT = 12  # hexadecimal digits of a digest that name a copy
ENTRY = "docker/entry.sh"
OF_IMAGE = (*(f"docker/{tier}.lock" for tier in ("cli", "data", "train")), ENTRY)


def code_files(root: Path | None = None) -> Iterator[Path]:
    """The files of CODE, in a fixed order, without what Python and editors leave behind.

    `root` is the folder of the toolkit here and below; None: the one that this process runs.
    """
    root = root or settings.ROOT
    for name in CODE:
        below = sorted((root / name).rglob("*")) if (root / name).is_dir() else [root / name]
        for file in below:
            if file.is_file() and not file.is_symlink() and not _LEFT.search(str(file.relative_to(root))):
                yield file


def code_id(root: Path | None = None) -> str:
    """Hex digest of the files of CODE, names and contents.

    Of the code that this process runs it stays as it was when first asked for, whatever an editor does since.
    """
    return _identity(root) if root else _own_identity(settings.ROOT)


@functools.cache
def _own_identity(root: Path) -> str:
    return _identity(root)


def _identity(root: Path) -> str:
    total = hashlib.sha256()
    for name, digest in _digests(root).items():
        total.update(f"{name}\0".encode() + digest)
    return total.hexdigest()


def locks_id(root: Path | None = None) -> str:
    """Hex digest of what an image's environment is made from and entered by: its locks, docker/entry.sh."""
    wanted = {name: digest for name, digest in _digests(root).items() if name in OF_IMAGE}
    return hashlib.sha256(b"".join(f"{n}\0".encode() + d for n, d in wanted.items())).hexdigest()


def _digests(root: Path | None) -> dict[str, bytes]:
    root = root or settings.ROOT
    return {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).digest() for file in code_files(root)
    }


def changes(one: Path, other: Path) -> list[str]:
    """The files of CODE that differ between two folders, or that one of them has not."""
    a, b = _digests(one), _digests(other)
    return [name for name in sorted({*a, *b}) if a.get(name) != b.get(name)]


def home(folder: Path, identity: str) -> Path:
    """Where a run's folder keeps the copy of a state of the code."""
    return folder / "code" / identity[:SHORT]


def keep(folder: Path, root: Path | None = None) -> Path:
    """The copy of `root`'s code in a run's folder, made where it is not there; its files are read-only.

    A copy and no links: an editor that writes into a file would change a linked one, too. A few MB.
    An OmrError where the code was changed since this process began, or while it was copied.
    """
    identity, root = code_id(root), root or settings.ROOT
    kept = home(folder, identity)
    if kept.is_dir() and code_id(kept) == identity:
        return kept
    shutil.rmtree(kept, ignore_errors=True)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with building(kept) as aside:
        for file in code_files(root):
            copy = aside / file.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, copy)
        if code_id(aside) != identity:
            raise OmrError(f"{root}: was changed while this command ran; run it again")
    for file in code_files(kept):
        file.chmod(file.stat().st_mode & ~0o222)
    return kept
