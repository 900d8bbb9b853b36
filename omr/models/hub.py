"""The only network: files of a hub repository at one commit, whole and proved, in a local folder.

The client is huggingface_hub, so HF_TOKEN, HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE mean what they mean
to `hf`. Its own local-folder download starts a killed file anew and checks no hash; here a file grows
under a name of its own, goes on where it stopped, and gets its final name once its hash is right.
"""

import hashlib
import queue
import random
import shlex
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from omr import files
from omr.errors import OmrError
from omr.progress import Progress
from omr.recipe import Pin

RECORD = ".hub.json"  # what was verified in a folder: name -> size, sha256, mtime
TRIES = 5  # attempts in a row that bring no new byte
WRONG = 3  # whole downloads of a file with the wrong hash
STREAMS = 8  # files at once
SHORT = "the hub sent fewer bytes than it lists"
CHUNK = 1 << 20  # bytes read before they are written


@dataclass(frozen=True)
class File:
    """A file as the hub lists it: bytes, git blob hash, and sha256 where it is stored as LFS."""

    path: str
    size: int
    blob: str | None
    sha256: str | None


def command(pin: Pin, repo_type: str, patterns: tuple[str, ...], folder: Path) -> str:
    """The `hf` command that fetches the same files, for dry runs and for machines without this toolkit."""
    words = ["hf", "download", pin.repo, "--repo-type", repo_type, "--revision", pin.revision]
    for pattern in patterns:
        words += ["--include", pattern]
    return shlex.join([*words, "--local-dir", str(folder)])


def kept(pin: Pin, folder: Path, patterns: tuple[str, ...]) -> dict[str, dict] | None:
    """What an earlier download of these patterns proved and nobody touched since: name -> size, sha256.

    None when anything of it is missing, changed, or of another commit. Reads no file but the record.
    """
    record = _record(pin, folder)
    if not set(patterns) <= set(record["patterns"]):
        return None
    names = _matching(record["files"], patterns)
    return (
        {n: _facts(record["files"][n]) for n in names}
        if all(_untouched(folder, record, n) for n in names)
        else None
    )


def download(
    pin: Pin,
    repo_type: str,
    patterns: tuple[str, ...],
    folder: Path,
    *,
    advice: str = "set RAW= to a local copy",
    streams: int = STREAMS,
    choose: Callable[[list[File]], list[File]] | None = None,
) -> dict[str, dict]:
    """Bring every file that matches `patterns` into `folder`, verified; returns name -> size, sha256.

    repo_type is `model` or `dataset`. Run again it goes on where it stopped. `choose` may thin the
    listing out (then the patterns do not count as complete). An OmrError names the file, what the hub
    answered, and `advice`. Disk space is checked before the first byte.
    """
    if choose is None and (done := kept(pin, folder, patterns)) is not None:
        return done
    _prepare()
    what = f"{folder} (from {pin.repo})"
    with files.lock(folder / ".hub.lock", what):
        if offline():
            wanted = _cached(pin, repo_type, patterns)
            if not wanted:
                raise OmrError(
                    f"{pin.repo}@{pin.revision[:8]}: HF_HUB_OFFLINE=1 and it is not in the cache; {advice}"
                )
        else:
            wanted = _retry(lambda: listing(pin, repo_type, patterns), pin.repo, advice)
            if not wanted:
                raise OmrError(
                    f"{pin.repo}@{pin.revision[:8]}: has no file like {' or '.join(patterns)}; {advice}"
                )
        wanted = choose(wanted) if choose else wanted
        record = _record(pin, folder)
        todo = [file for file in wanted if not _untouched(folder, record, file.path)]
        missing = sum(file.size - _have(folder, file) for file in todo)
        files.need_space(folder, missing, f"the download of {pin.repo}")
        _fetch_all(pin, repo_type, todo, folder, record, advice, streams)
        for part in folder.rglob(".*.part"):
            part.unlink()  # of another revision, or of a shard that a limit no longer wants
        if choose is None:
            record["patterns"] = sorted({*record["patterns"], *patterns})
        files.write_json(folder / RECORD, record)
        return {file.path: _facts(record["files"][file.path]) for file in wanted}


def offline() -> bool:
    """Did the user ask never to ask the hub?"""
    from huggingface_hub import constants

    return constants.is_offline_mode()


def _prepare() -> None:
    """Our own line counts all files together, our own errors say what went wrong; a cut costs one chunk."""
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars, logging

    constants.DOWNLOAD_CHUNK_SIZE = CHUNK
    disable_progress_bars()
    logging.set_verbosity_error()


def listing(pin: Pin, repo_type: str, patterns: tuple[str, ...]) -> list[File]:
    """The repository's files at the pinned commit that match, by name."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    tree = HfApi().list_repo_tree(pin.repo, recursive=True, revision=pin.revision, repo_type=repo_type)
    entries = {e.path: e for e in tree if isinstance(e, RepoFile)}
    found = []
    for name in _matching(entries, patterns):
        path, entry = PurePosixPath(name), entries[name]
        if path.is_absolute() or ".." in path.parts:
            raise OmrError(f"{pin.repo}: lists a file outside its folder ({name}); do not use this hub")
        found.append(File(name, entry.size, entry.blob_id, entry.lfs.sha256 if entry.lfs else None))
    return found


def _matching(names: Iterable[str], patterns: tuple[str, ...]) -> list[str]:
    return sorted(n for n in names if any(fnmatchcase(n, p) for p in patterns))


def _record(pin: Pin, folder: Path) -> dict:
    fresh = {"repo": pin.repo, "revision": pin.revision, "patterns": [], "files": {}}
    path = folder / RECORD
    old = files.read_json(path) if path.exists() else fresh
    return old if (old["repo"], old["revision"]) == (pin.repo, pin.revision) else fresh


def _facts(entry: dict) -> dict:
    return {"size": entry["size"], "sha256": entry["sha256"]}


def _untouched(folder: Path, record: dict, name: str) -> bool:
    entry = record["files"].get(name)
    try:
        stat = (folder / name).stat()
    except OSError:
        return False
    return entry is not None and (stat.st_size, stat.st_mtime_ns) == (entry["size"], entry["mtime_ns"])


def _partial(folder: Path, file: File) -> Path:
    """Where a file grows; the hash in the name keeps the parts of two revisions apart."""
    path = folder / file.path
    return path.with_name(f".{path.name}.{(file.sha256 or file.blob or '')[:12]}.part")


def _have(folder: Path, file: File) -> int:
    try:
        return min(_partial(folder, file).stat().st_size, file.size)
    except FileNotFoundError:
        return 0  # not begun, or just become the file itself


def _fetch_all(
    pin: Pin, repo_type: str, todo: list[File], folder: Path, record: dict, advice: str, streams: int
) -> None:
    """Several files at once; the record grows file by file, so that a killed run rehashes no finished one."""
    work: queue.SimpleQueue[File] = queue.SimpleQueue()
    for file in todo:
        work.put(file)
    results: queue.SimpleQueue[tuple[File, object]] = queue.SimpleQueue()
    failed = threading.Event()

    def run() -> None:
        while not failed.is_set():
            try:
                file = work.get_nowait()
            except queue.Empty:
                return
            try:
                results.put((file, _fetch(pin, repo_type, file, folder, advice)))
            except BaseException as error:  # carried to the main thread, which raises it
                failed.set()
                results.put((file, error))

    # Daemons: an interrupt ends the program at once, and what has arrived stays for the next run.
    for _ in range(min(streams, len(todo))):
        threading.Thread(target=run, daemon=True).start()
    progress = Progress(f"downloading {pin.repo}", sum(file.size for file in todo))
    progress.start(sum(_have(folder, file) for file in todo))
    left = {file.path: file for file in todo}
    while left:
        try:
            file, result = results.get(timeout=0.5)
        except queue.Empty:
            there = sum(file.size for file in todo) - sum(file.size for file in left.values())
            progress.set(there + sum(_have(folder, file) for file in left.values()))
            continue
        if isinstance(result, BaseException):
            raise result
        del left[file.path]
        record["files"][file.path] = result
        files.write_json(folder / RECORD, record)
    progress.close()


def _fetch(pin: Pin, repo_type: str, file: File, folder: Path, advice: str) -> dict:
    """One file, until its hash is right; returns its line of the record."""
    path, partial = folder / file.path, _partial(folder, file)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size == file.size and (digest := _proved(path, file)):
        return _entry(path, digest)  # brought by hand, or by `hf download`
    for _ in range(WRONG):
        if not _from_cache(pin, repo_type, file, partial):
            _stream(pin, repo_type, file, partial, advice)
        if digest := _proved(partial, file):
            files.sync(partial)
            partial.replace(path)
            return _entry(path, digest)
        got = files.sha256(partial)
        partial.unlink()
    raise OmrError(
        f"{file.path}: {pin.repo} serves other bytes than it lists (sha256 {got[:12]}…, {WRONG} times);"
        f" check HF_ENDPOINT and proxies, or {advice}"
    )


def _entry(path: Path, digest: str) -> dict:
    stat = path.stat()
    return {"size": stat.st_size, "sha256": digest, "mtime_ns": stat.st_mtime_ns}


def _proved(path: Path, file: File) -> str | None:
    """The file's sha256 if its bytes are those that the hub lists, else None."""
    if path.stat().st_size != file.size:
        return None
    digest = files.sha256(path)
    if file.sha256:
        return digest if digest == file.sha256 else None
    # A small file is known by its git blob hash, which covers a header and the bytes.
    blob = hashlib.sha1(b"blob %d\0" % file.size + path.read_bytes(), usedforsecurity=False).hexdigest()
    return digest if blob == file.blob else None


def _cached(pin: Pin, repo_type: str, patterns: tuple[str, ...]) -> list[File]:
    """What the hub's cache (HF_HOME) holds of the pinned commit; a blob there is named by its hash."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    snapshot = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=pin.repo, repo_type=repo_type))
    snapshot = snapshot / "snapshots" / pin.revision
    names = [p.relative_to(snapshot).as_posix() for p in snapshot.rglob("*") if p.is_file()]
    found = []
    for name in _matching(names, patterns):
        blob = (snapshot / name).resolve()
        large = len(blob.name) == 64
        found.append(
            File(name, blob.stat().st_size, None if large else blob.name, blob.name if large else None)
        )
    return found


def _from_cache(pin: Pin, repo_type: str, file: File, partial: Path) -> bool:
    """Copy the file from the hub's cache if it is there; a damaged copy there is passed over."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(pin.repo, file.path, revision=pin.revision, repo_type=repo_type)
    if (
        not isinstance(found, str)
        or Path(found).stat().st_size != file.size
        or not _proved(Path(found), file)
    ):
        return False
    shutil.copyfile(found, partial)
    return True


def _stream(pin: Pin, repo_type: str, file: File, partial: Path, advice: str) -> None:
    """Append to `partial` until it has the size that the hub lists."""
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    # Compressed on the way, ranges would count other bytes than ours.
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    url = hf_hub_url(
        pin.repo, file.path, repo_type=repo_type, revision=pin.revision, endpoint=constants.ENDPOINT
    )

    def once() -> None:
        with partial.open("ab") as handle:
            have = handle.tell()
            if have > file.size:
                handle.truncate(0)
                have = 0
            if have < file.size:
                http_get(
                    url,
                    handle,
                    resume_size=have,
                    headers=headers,
                    expected_size=file.size,
                    displayed_filename=file.path,
                )

    def size() -> int:
        return partial.stat().st_size if partial.exists() else 0

    _retry(once, f"{file.path} of {pin.repo}", advice, size, lambda: partial.unlink(missing_ok=True))


def _retry(
    once: Callable[[], object],
    what: str,
    advice: str,
    size: Callable[[], int] = lambda: 0,
    restart: Callable[[], object] = lambda: None,
) -> object:
    """Call `once` until it succeeds; patience counts only the attempts that bring no new byte."""
    from huggingface_hub import errors

    tries, best = 0, size()
    while True:
        try:
            return once()
        except errors.HfHubHTTPError as error:
            status = error.response.status_code
            if why := _hopeless(error, status):
                raise OmrError(f"{what}: {why}, or {advice}") from None
            if status == 416:
                restart()  # more is here than the hub has
            reason = SHORT if status == 416 else f"the hub answered {status}"
        except (errors.HTTPError, ConnectionError, TimeoutError) as error:
            reason = f"the connection failed ({type(error).__name__}: {error})"
        except OSError as error:
            if error.errno is not None:
                raise
            reason = SHORT
        tries, best = (0, size()) if size() > best else (tries + 1, best)
        if tries >= TRIES:
            raise OmrError(f"{what}: {reason}, {TRIES} times in a row; run again to go on, or {advice}")
        time.sleep(_pause(tries))


def _hopeless(error: Exception, status: int) -> str | None:
    """Why asking again would not help, or None where it may."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "is gated; accept its terms on the hub and set HF_TOKEN"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the hub does not have the pinned revision; check HF_ENDPOINT"
    if status in (401, 403):
        return f"the hub refuses access ({status}); set HF_TOKEN"
    if status == 404:
        return "is not on the hub (404); check HF_ENDPOINT"
    if status not in (408, 416, 429) and status < 500:
        return f"the hub answered {status}; check HF_ENDPOINT"
    return None


def _pause(tries: int) -> float:
    """Seconds before the next attempt: doubling, with jitter, so that many clients do not knock together."""
    return min(60.0, 2.0**tries) * random.uniform(0.5, 1.0)
