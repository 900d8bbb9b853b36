"""Download files of a hub repository at a pinned commit, and verify the hash of each.

huggingface_hub does the transfer, so HF_TOKEN, HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE mean here what they
mean to `hf`. It verifies no hashes and writes straight to the final name; here a file arrives in a folder
of this process alone, and moves to its final name once its hash is the one that the hub lists. Nothing is
shared while it grows: where a file system's locks exclude nobody, two downloads at once cost only bandwidth.
A killed download loses the files that were under way, and no finished one.
"""

import contextlib
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TypedDict

from omr import files, records
from omr.errors import OmrError, shown
from omr.manifest import FileEntry
from omr.models.transfer import HubFile, Transfer, retry
from omr.progress import Progress
from omr.recipe import Pin

RECORD = ".hub.json"  # in a folder: what was verified there
STAGE = ".hub-"  # begins the name of the folder in which a process's files arrive
STREAMS = 8  # files at once


class _Verified(TypedDict):
    """A file that has the hub's bytes."""

    size: int  # bytes
    sha256: str
    mtime_ns: int  # when it was last written


class _Record(TypedDict):
    """RECORD's content."""

    repo: str
    revision: str
    patterns: list[str]  # whose files are all there
    files: dict[str, "_Verified"]  # by name


def command(pin: Pin, repo_type: str, patterns: tuple[str, ...], folder: Path) -> str:
    """The `hf` command that fetches the same files, for dry runs and for machines without this toolkit."""
    words = ["hf", "download", pin.repo, "--repo-type", repo_type, "--revision", pin.revision]
    for pattern in patterns:
        words += ["--include", pattern]
    return shlex.join([*words, "--local-dir", str(folder)])


def kept(pin: Pin, folder: Path, patterns: tuple[str, ...]) -> dict[str, FileEntry] | None:
    """The files that an earlier download of these patterns verified and nobody touched since, by name.

    None if any of them is missing, changed, or of another commit. Only the record is read.
    """
    record = _record(pin, folder)
    if not set(patterns) <= set(record["patterns"]):
        return None
    names = _matching(record["files"], patterns)
    return _entries(record, names) if all(_untouched(folder, record, n) for n in names) else None


def download(
    pin: Pin,
    repo_type: str,
    patterns: tuple[str, ...],
    folder: Path,
    *,
    advice: str = "set RAW= to a local copy",
    streams: int = STREAMS,
    choose: Callable[[list[HubFile]], list[HubFile]] | None = None,
) -> dict[str, FileEntry]:
    """Bring every file that matches one of `patterns` into `folder`, verified; returns them by name.

    repo_type is `model` or `dataset`. A later call downloads only what is missing or changed. `choose` may
    drop files of the listing (then the patterns do not count as complete). An OmrError names the file, what
    the hub answered, and `advice`. Disk space is checked before the first byte.
    """
    if choose is None and (done := kept(pin, folder, patterns)) is not None:
        return done
    silence()
    with files.lock(folder / ".hub.lock", f"{folder} (from {pin.repo})"), _stage(folder) as stage:
        cached: dict[HubFile, Path] = {}
        if offline():
            wanted = list(cached := _cached(pin, repo_type, patterns))
            lack = "HF_HUB_OFFLINE=1 and it is not in the cache"
        else:
            wanted = retry(lambda: listing(pin, repo_type, patterns), pin.repo, advice)
            lack = f"has no file like {' or '.join(patterns)}"
        if not wanted:
            raise OmrError(f"{pin.repo}@{pin.revision[:8]}: {lack}; {advice}")
        wanted = choose(wanted) if choose else wanted
        record = _record(pin, folder)
        todo = [file for file in wanted if not _untouched(folder, record, file.path)]
        files.need_space(folder, sum(file.size for file in todo), f"the download of {pin.repo}")
        progress = Progress(f"downloading {pin.repo}", sum(file.size for file in todo))
        transfer = Transfer(pin, repo_type, advice, folder, stage, cached)
        for file, digest in transfer.run(todo, streams, progress):
            stat = (folder / file.path).stat()
            entry = {"size": stat.st_size, "sha256": digest, "mtime_ns": stat.st_mtime_ns}
            record["files"][file.path] = entry
            files.write_json(folder / RECORD, record)  # after each file: no later run hashes it again
        progress.close()
        if choose is None:
            record["patterns"] = sorted({*record["patterns"], *patterns})
        files.write_json(folder / RECORD, record)
        return _entries(record, (file.path for file in wanted))


def offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids to ask the hub."""
    from huggingface_hub import constants

    return constants.is_offline_mode()


def listing(pin: Pin, repo_type: str, patterns: tuple[str, ...]) -> list[HubFile]:
    """The repository's files at the pinned commit that match one of `patterns`, by name."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    tree = HfApi().list_repo_tree(pin.repo, recursive=True, revision=pin.revision, repo_type=repo_type)
    entries = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
    found = [entries[name] for name in _matching(entries, patterns)]
    for path in (PurePosixPath(entry.path) for entry in found):
        if path.is_absolute() or ".." in path.parts or not str(path).isprintable():
            raise OmrError(
                f"{pin.repo}: lists a file outside its folder ({shown(str(path))}); do not use this hub"
            )
    return [HubFile(f.path, f.size, f.blob_id, f.lfs.sha256 if f.lfs else None) for f in found]


def _cached(pin: Pin, repo_type: str, patterns: tuple[str, ...]) -> dict[HubFile, Path]:
    """The same from the hub's cache (HF_HOME), with each file's place there; empty if one is missing."""
    from huggingface_hub import errors, snapshot_download

    what = {"repo_type": repo_type, "revision": pin.revision, "allow_patterns": list(patterns)}
    try:
        snapshot = Path(snapshot_download(pin.repo, local_files_only=True, **what))
    except errors.LocalEntryNotFoundError:
        return {}
    found = {}
    for name in _matching((p.relative_to(snapshot).as_posix() for p in snapshot.rglob("*")), patterns):
        if (blob := (snapshot / name).resolve()).is_file():  # its name is its sha256, or its git blob hash
            sha256, git = (blob.name, None) if len(blob.name) == 64 else (None, blob.name)
            found[HubFile(name, blob.stat().st_size, git, sha256)] = blob
    return found


def _matching(names: Iterable[str], patterns: tuple[str, ...]) -> list[str]:
    return sorted(n for n in names if any(fnmatchcase(n, p) for p in patterns))


def _record(pin: Pin, folder: Path) -> _Record:
    """What the folder's record says of this commit; an empty one if it is of another."""
    fresh: _Record = {"repo": pin.repo, "revision": pin.revision, "patterns": [], "files": {}}
    path = folder / RECORD
    if not path.exists():
        return fresh
    with records.checked(path, "remove it, and every file there is verified anew"):
        old = records.of(_Record, files.read_json(path))
        for name in old["files"]:
            records.inside(name)
    return old if (old["repo"], old["revision"]) == (pin.repo, pin.revision) else fresh


def _entries(record: _Record, names: Iterable[str]) -> dict[str, FileEntry]:
    found = {name: record["files"][name] for name in names}
    return {name: {"size": entry["size"], "sha256": entry["sha256"]} for name, entry in found.items()}


def _untouched(folder: Path, record: _Record, name: str) -> bool:
    """Whether a file was verified and has kept its size and modification time since."""
    entry = record["files"].get(name)
    try:
        stat = (folder / name).stat()
    except OSError:
        return False
    return entry is not None and (stat.st_size, stat.st_mtime_ns) == (entry["size"], entry["mtime_ns"])


@contextlib.contextmanager
def _stage(folder: Path) -> Iterator[Path]:
    """A folder in which this process's files arrive; what killed downloads left is removed first."""
    for left in folder.glob(f"{STAGE}*"):
        shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=STAGE, dir=folder, ignore_cleanup_errors=True) as stage:
        yield Path(stage)


def silence() -> None:
    """Turn off the client's own progress bars and warnings: one line here counts all files together."""
    from huggingface_hub.utils import disable_progress_bars, logging

    disable_progress_bars()
    logging.set_verbosity_error()
