"""Files past the page cache, where the file system can: what is written or read once is not worth keeping.

A page of the cache costs more to get and to fill than the disk takes to store it, so direct I/O (O_DIRECT)
leaves the processor to the text. It moves whole blocks between aligned memory and aligned places alone: the
ends that are no whole block go the usual way, and so does everything where the file system refuses.
"""

import contextlib
import errno
import mmap
import os
import time
from pathlib import Path

BLOCK = 4096  # bytes; no disk in use asks for more
AT_ONCE = os.sysconf("SC_IOV_MAX")  # pieces that one system call writes
TRIAL = 16 << 20  # bytes
DIRECT = getattr(os, "O_DIRECT", 0)


def memory(size: int) -> memoryview:
    """Aligned memory; it is the process's until nothing looks at it any more."""
    pages = mmap.mmap(-1, max(1, size), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            pages.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(pages)


def below(place: int) -> int:
    """The beginning of the block of a place."""
    return place // BLOCK * BLOCK


def above(place: int) -> int:
    """The end of the block of a place, or the place itself where a block ends."""
    return -(-place // BLOCK) * BLOCK


class File:
    """A file that is written or read at places, by several threads if need be; `cached` is the usual way."""

    def __init__(self, path: Path, flags: int, cached: bool = False) -> None:
        self.plain = os.open(path, flags, 0o666)
        if cached:
            self.straight = os.dup(self.plain)
            return
        try:
            self.straight = os.open(path, flags & ~(os.O_CREAT | os.O_TRUNC | os.O_EXCL) | DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL:
                os.close(self.plain)
                raise
            self.straight = os.dup(self.plain)

    def write(self, data: memoryview, place: int) -> None:
        """Write all of `data` at a place; its memory lies in its block as the place lies in its own."""
        end = place + len(data)
        first = min(end, above(place))
        last = max(first, below(end))
        self._write(self.plain, data[: first - place], place)
        self._write(self.straight, data[first - place : last - place], first)
        self._write(self.plain, data[last - place :], last)

    def _write(self, handle: int, data: memoryview, place: int) -> None:
        while data:
            try:
                # A direct write that is cut short ends at a block: what is left is aligned again.
                written = os.pwrite(handle, data, place)
            except OSError as error:
                if error.errno != errno.EINVAL or handle == self.plain:
                    raise
                written = os.pwrite(self.plain, data, place)
            data, place = data[written:], place + written

    def write_all(self, pieces: list[memoryview], place: int) -> None:
        """Write all pieces, wherever in memory they lie, one behind the other from a place on."""
        at = 0
        while at < len(pieces):
            here = pieces[at : at + AT_ONCE]
            written = os.pwritev(self.plain, here, place)
            place += written
            for piece in here:
                if written < len(piece):
                    pieces[at] = piece[written:]  # a short write: a signal, or a disk that is nearly full
                    break
                written -= len(piece)
                at += 1

    def read(self, window: memoryview, place: int, size: int) -> memoryview:
        """The `size` bytes at a place, or as many as there are; `window` is aligned and two blocks larger."""
        start = below(place)
        wanted = window[: above(place + size) - start]
        done = 0
        while done < len(wanted):
            try:
                got = os.preadv(self.straight, [wanted[done:]], start + done)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                got = os.preadv(self.plain, [wanted[done:]], start + done)
            done += got
            if not got or done % BLOCK:
                break  # the file's end
        return wanted[place - start : min(done, place - start + size)]

    def sync(self) -> None:
        """Return when what was written is on the disk."""
        os.fdatasync(self.plain)

    def close(self) -> None:
        """Give the file back."""
        os.close(self.plain)
        os.close(self.straight)


def speed(folder: Path) -> float:
    """Bytes a second that the disk of a folder takes, by a short trial; 0 where there is no direct I/O."""
    trial, path = memory(TRIAL), folder / f".speed.{os.getpid()}.tmp"
    trial[:] = bytes(range(256)) * (TRIAL // 256)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | DIRECT)
        try:
            start = time.perf_counter()
            return os.pwrite(handle, trial, 0) / (time.perf_counter() - start)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return 0.0
    finally:
        path.unlink(missing_ok=True)
