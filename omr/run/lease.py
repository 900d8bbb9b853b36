"""A fenced lease on a run folder: whoever took it last may write, and everybody else can tell.

The lease is a folder of numbered files. Taking it creates the next number, which only one can; the holder
of a lower number sees that a higher one exists. Nothing depends on clocks or on locks of the file system,
and a killed holder leaves nothing to clean.
"""

import contextlib
import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from omr import records
from omr.errors import OmrError

VARIABLE = "OMR_LEASE"  # the held file's path, for the engine that trains under it


class Lost(OmrError):
    """Somebody newer holds the lease: this process may not write there any more."""


class Held(OmrError):
    """A live job holds the lease."""


class _Holder(TypedDict):
    """What a number's file says of who took it."""

    job: str
    restart: int
    host: str
    pid: int


@dataclass(frozen=True)
class Lease:
    """A number that was taken."""

    path: Path  # <run>/lease/<number>

    @property
    def newest(self) -> Path | None:
        """The file of the highest number; None where the folder is gone."""
        numbers = _numbers(self.path.parent)
        return self.path.with_name(str(numbers[-1])) if numbers else None

    @property
    def holds(self) -> bool:
        """Is this still the newest?

        The folder is listed, because a network file system may go on answering for a minute that a single
        name is not there, while it asks again for a folder that is opened.
        """
        return self.newest == self.path

    def check(self) -> None:
        """Raise Lost when a newer one was taken."""
        newest = self.newest
        if newest is None:
            raise Lost(f"{self.path.parent.parent}: the run's lease is gone; this process ends")
        if newest != self.path:
            raise Lost(
                f"{self.path.parent.parent}: {_who(newest)} has taken over this run; this process ends"
            )


def check() -> None:
    """Raise Lost if this process works under a lease (OMR_LEASE) that was taken over; cheap."""
    if path := os.environ.get(VARIABLE):
        Lease(Path(path)).check()


def holder(folder: Path) -> dict | None:
    """Who took the newest number, with `number`; None where nobody has."""
    numbers = _numbers(folder)
    return {"number": numbers[-1], **_read(folder / str(numbers[-1]))} if numbers else None


def take(folder: Path, job: str, restart: int, active: Callable[[str], bool | None]) -> Lease:
    """Take the lease for a job's attempt; Held where another job that Slurm calls active has it.

    An earlier attempt of the same job is never waited for: Slurm itself started this one in its place.
    """
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        now = holder(folder)
        if now and now.get("job") not in (None, job):
            alive = active(now["job"])
            if alive:
                raise Held(
                    f"{folder.parent}: job {now['job']} trains here; wait for it, or make cancel first"
                )
            if alive is None:
                raise Held(f"{folder.parent}: Slurm does not say whether job {now['job']} trains here")
        number = (now["number"] if now else 0) + 1
        entry = {"job": job, "restart": restart, "host": socket.gethostname(), "pid": os.getpid()}
        aside = folder / f".{number}.{socket.gethostname()}.{os.getpid()}"
        aside.write_text(json.dumps(entry) + "\n")
        try:
            os.link(aside, folder / str(number))
        except FileExistsError:
            continue  # another was faster
        finally:
            aside.unlink()
        return Lease(folder / str(number))


def _numbers(folder: Path) -> list[int]:
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def _read(path: Path) -> dict:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        return records.of(_Holder, json.loads(records.read_text(path)))
    return {}


def _who(path: Path) -> str:
    entry = _read(path)
    return f"job {entry.get('job', '?')} (start {entry.get('restart', '?')})"
