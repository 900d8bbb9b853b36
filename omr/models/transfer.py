"""Get files from the hub: several at once, each verified, with patience for what passes by itself."""

import contextlib
import hashlib
import queue
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from omr import files
from omr.errors import OmrError, shown
from omr.progress import Progress
from omr.recipe import Pin

TRIES = 5  # attempts for a file; inside each huggingface_hub resumes a cut connection and waits when told to
WRONG = 3  # downloads of a file with the wrong hash
Result = TypeVar("Result")


@dataclass(frozen=True)
class HubFile:
    """A file as the hub lists it: bytes, git blob hash, and sha256 where it is stored as LFS."""

    path: str
    size: int
    blob: str | None
    sha256: str | None

    def verify(self, path: Path) -> str | None:
        """The sha256 of a local file if its bytes are those that the hub lists, else None."""
        if path.stat().st_size != self.size:
            return None
        digest = files.sha256(path)
        if self.sha256:
            return digest if digest == self.sha256 else None
        # The hub lists a small file by its git blob hash, which covers a header and the bytes.
        blob = hashlib.sha1(b"blob %d\0" % self.size + path.read_bytes(), usedforsecurity=False)
        return digest if blob.hexdigest() == self.blob else None


@dataclass(frozen=True)
class Transfer:
    """Several files at once from a repository into a folder."""

    pin: Pin
    repo_type: str
    advice: str  # what else to do where the hub cannot be had
    folder: Path
    stage: Path  # where files arrive; on the file system of `folder`
    cached: dict[HubFile, Path]  # offline: where the hub's cache has each file
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self, todo: list[HubFile], streams: int, progress: Progress) -> Iterator[tuple[HubFile, str]]:
        """Bring the files; yields each, once it stands under its final name, with its sha256."""
        work: queue.SimpleQueue[HubFile] = queue.SimpleQueue()
        results: queue.SimpleQueue[tuple[HubFile, str | BaseException]] = queue.SimpleQueue()
        for file in todo:
            work.put(file)

        def bring() -> None:
            with contextlib.suppress(queue.Empty):
                while not self.stopped.is_set():
                    file = work.get_nowait()
                    try:
                        results.put((file, self._bring(file)))
                    except BaseException as error:  # the main thread raises it
                        self.stopped.set()
                        results.put((file, error))

        # Daemon threads, unlike those of a pool, let an interrupt end the program at once.
        for _ in range(min(streams, len(todo))):
            threading.Thread(target=bring, daemon=True).start()
        left, size = len(todo), 0
        while left:
            try:
                file, result = results.get(timeout=0.5)
            except queue.Empty:
                progress.set(size + _size(self.stage))
                continue
            if isinstance(result, BaseException):
                raise result
            left, size = left - 1, size + file.size
            yield file, result

    def _bring(self, file: HubFile) -> str:
        """Bring one file under its final name; returns its sha256."""
        what = f"{file.path} of {self.pin.repo}"
        for attempt in range(WRONG):
            digest = retry(lambda n=attempt: self._bring_once(file, fresh=n > 0), what, self.advice)
            if digest:
                return digest
        raise OmrError(
            f"{file.path}: {self.pin.repo} serves other bytes than it lists ({WRONG} times);"
            f" check HF_ENDPOINT and proxies, or {self.advice}"
        )

    def _bring_once(self, file: HubFile, fresh: bool) -> str | None:
        """The same, without patience; None if the bytes were wrong.

        `fresh` passes over the hub's cache, where a damaged copy may lie.
        """
        from huggingface_hub import hf_hub_download

        if self.stopped.is_set():
            raise OmrError("another file failed")  # the error that the user sees is that file's
        path = self.folder / file.path
        if path.exists() and (digest := file.verify(path)):
            return digest  # brought by hand, by `hf download`, or by another process
        if self.cached:
            arrived = self.stage / file.path
            arrived.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.cached[file], arrived)
        else:
            source = {"repo_type": self.repo_type, "revision": self.pin.revision}
            where = {"local_dir": self.stage, "force_download": fresh}
            arrived = Path(hf_hub_download(self.pin.repo, file.path, **source, **where))
        if digest := file.verify(arrived):
            files.sync(arrived)
            path.parent.mkdir(parents=True, exist_ok=True)
            arrived.replace(path)
        else:
            arrived.unlink()
        return digest


def _size(folder: Path) -> int:
    """Bytes of the files below a folder, which may come and go meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def retry(once: Callable[[], Result], what: str, advice: str, tries: int = TRIES) -> Result:
    """Call `once` until it succeeds, `tries` times at most; an OmrError says why it did not.

    `what` names the thing that is asked for, `advice` is what to do instead.
    """
    from huggingface_hub import errors

    for attempt in range(1, tries + 1):
        try:
            return once()
        except (OSError, errors.HTTPError, RuntimeError) as error:  # hf_xet raises RuntimeError
            reason = _reason(error, what, advice)
        if attempt < tries:
            # Doubling, with jitter, so that many clients do not ask again at the same moment.
            time.sleep(2.0**attempt * random.uniform(0.5, 1.0))
    often = f", {tries} times in a row" if tries > 1 else ""
    raise OmrError(f"{what}: {reason}{often}; run again to go on, or {advice}")


def _reason(error: Exception, what: str, advice: str) -> str:
    """Why a request failed, in a few words; raises where asking again cannot help."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__:
        error = error.__cause__  # the client wraps what went wrong when it asked about a file
    elif isinstance(error, RuntimeError) and isinstance(error.__cause__, (OSError, errors.HTTPError)):
        error = error.__cause__  # and when it sent one
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        if hopeless := _hopeless(error, status):
            raise OmrError(f"{what}: {hopeless}, or {advice}") from None
        return f"the hub answered {status}"
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(error, (errors.HTTPError, ConnectionError, TimeoutError)):
        return f"the connection failed ({text})"
    if isinstance(error, FileNotFoundError):
        return "another process removed what had arrived"
    if isinstance(error, OSError) and error.errno is not None:
        raise error  # of this machine's disk
    if type(error) is OSError:
        return "the hub sent fewer bytes than it lists"
    return f"the transfer failed ({text})"


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
    if status in (409, 412):
        return f"changed on the hub meanwhile ({status}); run again"
    if status not in (408, 416, 429) and status < 500:
        said = f" ({shown(error.server_message)})" if error.server_message else ""
        return f"the hub answered {status}{said}; check HF_ENDPOINT"
    return None
