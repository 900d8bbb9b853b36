"""How much disk folders take: by stat alone, several at a time, as a shared file system answers slowly."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

WALKERS = 16  # folders that are walked at a time: they wait for the file system


@dataclass(frozen=True)
class Size:
    """What lies in a folder, or in a file."""

    files: int = 0
    bytes: int = 0

    def __add__(self, other: "Size") -> "Size":
        return Size(self.files + other.files, self.bytes + other.bytes)

    def __sub__(self, other: "Size") -> "Size":
        return Size(max(0, self.files - other.files), max(0, self.bytes - other.bytes))


def measure(paths: Iterable[Path]) -> dict[Path, Size]:
    """The size of each path; what is not there, or goes while it is looked at, is nothing."""
    wanted = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(WALKERS) as pool:
        return dict(zip(wanted, pool.map(_size, wanted), strict=True))


def _size(path: Path) -> Size:
    """Links are counted as themselves, so that nothing is counted twice or outside of the workspace."""
    try:
        if not path.is_dir() or path.is_symlink():
            return Size(1, path.lstat().st_size)
    except OSError:
        return Size()
    found, folders = Size(), [str(path)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        found += Size(1, entry.stat(follow_symlinks=False).st_size)
        except OSError:
            continue
    return found
