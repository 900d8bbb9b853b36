"""A final name means finished: write aside, sync, rename. Locks, hashes and disk space."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from omr.errors import OmrError, RequestError, shown
from omr.records import read_text

Json = dict[str, Any]  # an object of a JSON file


def sync(path: Path) -> None:
    """fsync a file or a folder's entry list."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def settle_tree(folder: Path) -> None:
    """Open every file below `folder` to whom the umask lets, and fsync all of it, deepest first.

    Some libraries (safetensors) write for the owner alone, which would close a shared workspace to its group.
    A folder has the mode that the umask gave it.
    """
    for parent, _, names in os.walk(folder, topdown=False):
        wanted = Path(parent).stat().st_mode & 0o666
        for path in (Path(parent, name) for name in names):
            mode = path.stat().st_mode
            if wanted & ~mode:
                path.chmod(stat.S_IMODE(mode) | wanted)
            sync(path)
        sync(Path(parent))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` to write a file under; it becomes `path` on success, vanishes on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield aside
        sync(aside)
        aside.replace(path)
        sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


@contextlib.contextmanager
def building(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder`; it becomes `folder` on success, replacing what stood there.

    Leftovers of a killed attempt are removed first, so hold a `lock` where two might build at once.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside, old = (folder.with_name(f".{folder.name}.{word}") for word in ("tmp", "old"))
    if old.exists() and not folder.exists():
        old.rename(folder)  # killed between the two renames below
    for leftover in (aside, old):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside
        install(aside, folder)
    finally:
        for leftover in (aside, old):
            shutil.rmtree(leftover, ignore_errors=True)


def install(aside: Path, folder: Path) -> None:
    """Make the finished folder `aside` to `folder`, replacing what stood there."""
    old = folder.with_name(f".{folder.name}.old")
    settle_tree(aside)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    aside.rename(folder)
    sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file or nothing."""
    with writing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Json | list[Json]) -> None:
    """Write a whole JSON file, keys in the order given, or nothing."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Json:
    """Read a JSON object; damage is an OmrError that names the file."""
    try:
        value = json.loads(read_text(path))
        if not isinstance(value, dict):
            raise ValueError("no object")
        return value
    except (ValueError, RecursionError) as error:
        why = shown(str(error))
        raise OmrError(f"{path}: is not whole JSON ({why}); remove it and run the stage again") from None


_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def is_lfs_pointer(path: Path) -> bool:
    """Whether git-lfs left its note in place of a file."""
    if not path.is_file():
        return False
    with path.open("rb") as handle:
        return handle.read(len(_LFS_POINTER)) == _LFS_POINTER


def refuse_lfs_pointer(path: Path, otherwise: str) -> None:
    """An OmrError if a file is such a note; `otherwise` is what else brings the file."""
    if is_lfs_pointer(path):
        raise OmrError(
            f"{path}: is a git-lfs pointer in place of the file;"
            f" run git lfs pull in {path.parent}, or {otherwise}"
        )


def twice(pairs: list[tuple[str, Any]]) -> str | None:
    """The first key that an object of JSON has twice, of which readers keep either; None without one."""
    seen: set[str] = set()
    return next((key for key, _ in pairs if key in seen or seen.add(key)), None)


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


_SMALL, _ENDS = 1 << 20, 64 * 1024  # bytes


def digest_of_ends(path: Path) -> str:
    """Hex digest of a file of up to 1 MiB, or of the first and last 64 KiB of a larger one.

    For checkpoints of terabytes: it notices a file that was cut off or exchanged, not a flipped bit inside.
    """
    size = path.stat().st_size
    with path.open("rb") as handle:
        if size <= _SMALL:
            return hashlib.sha256(handle.read()).hexdigest()
        head = handle.read(_ENDS)
        handle.seek(size - _ENDS)
        return hashlib.sha256(head + handle.read(_ENDS)).hexdigest()


class Busy(OmrError):
    """Another process holds a lock: the work goes on there."""


@contextlib.contextmanager
def lock(path: Path, what: str) -> Iterator[None]:
    """Hold `path` against a second process on this machine or file system; `what` names the work.

    The kernel drops the lock with its holder, so a killed run leaves nothing to clean.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as handle:
        try:
            _take(handle)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "another process"
            advice = "wait for it, or stop it and run again"
            raise Busy(f"{what} is being made by {holder}; {advice}") from None
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {socket.gethostname()}")
        handle.flush()
        yield


def _take(handle: TextIO) -> None:
    """Take the lock of an open file; a BlockingIOError where somebody keeps it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(0.05)  # `is_locked` holds it no longer than that
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_locked(path: Path) -> bool:
    """Whether a process holds `lock` on a path, as far as this file system tells; creates nothing.

    The question itself takes the lock for an instant, as one of many readers: `lock` asks twice for that.
    """
    try:
        with path.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def holder_lives(path: Path) -> bool | None:
    """Whether the process that took a `lock` last still runs; None where another machine has to say."""
    found = re.fullmatch(r"process (\d+) on (\S+)", path.read_text().strip()) if path.exists() else None
    if found is None:
        return False
    if found[2] != socket.gethostname():
        return None
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def need_space(folder: Path, size: int, what: str) -> None:
    """An OmrError if the disk of `folder`, which need not exist yet, has fewer than `size` bytes free."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OmrError(
            f"{what} needs {human(size)} in {folder}, {human(free)} is free;"
            " free some, or set WORKSPACE elsewhere"
        )


def writable(folder: Path) -> None:
    """A RequestError if nothing can be written below `folder`; creates nothing."""
    parent = folder
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise RequestError(f"WORKSPACE={folder} is not writable (see {parent}); make it so or set another")


def boot() -> str | None:
    """What names this boot of this machine, where the system tells."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else None


def human(size: float) -> str:
    """`1.5 GB`: decimal units, as disks and hubs count."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
