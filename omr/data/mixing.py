"""Seeded buckets -> shuf -> one file, in constant memory, going on wherever it was killed.

The work folder holds the shards' lines as omr/data/scratch.py keeps them, the output as it grows, and
`mixed`, a line for each finished bucket. Once a bucket is on the disk its lines go, so that scratch and
output never stand there whole together. The output's bytes depend on the plan alone: not on workers, memory,
restarts or machines.

shuf draws its order from the number of lines and the random source alone. So it is asked to shuffle the
lines' numbers: the bytes are those that `shuf --random-source` makes of the bucket's lines
(tests/data/test_mixing.py).
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omr import files
from omr.data import scratch
from omr.errors import OmrError, RequestError
from omr.processes import cores
from omr.progress import Progress
from omr.settings.setting import MEMORY_SIZE

if TYPE_CHECKING:
    import numpy as np

PART = "output.part"
BASE = 190_000_000  # bytes: the parent process, of which the workers are forked
WORKER = 130_000_000  # bytes: a worker without its lines
ROOM = (8_000_000, 64_000_000)  # bytes of lines a worker holds: least, most
EACH = 200_000_000  # bytes a worker, unless MEMORY says otherwise
MIXER = 150_000_000  # bytes: the process that mixes, without the buckets it holds
PIECE = 8_000_000  # bytes of the output that the disk begins with while the next ones are copied
AHEAD = 4  # buckets held at most: two are put together, one is hashed and written, one waits


@dataclass(frozen=True)
class Means:
    """What the machine gives: it decides speed, never bytes."""

    workers: int
    memory: int  # bytes for the whole process tree

    @property
    def room(self) -> int:
        """Bytes of lines that each worker may hold."""
        share = (self.memory - BASE) // self.workers - WORKER
        return max(ROOM[0], min(ROOM[1], share))


@dataclass(frozen=True)
class Mixed:
    """The finished file."""

    sha256: str
    size: int  # bytes
    rows: int


def means(workers: int | None, memory: str | None) -> Means:
    """WORKERS and MEMORY, or the cores and a modest share for each; a RequestError for what cannot work."""
    workers = workers or cores()
    given = parse_memory(memory) if memory else BASE + workers * EACH
    if given < (least := least_memory(1)):
        raise RequestError(f"MEMORY={memory} is too little; one worker needs {least // 10**6}M")
    while least_memory(workers) > given:
        workers -= 1
    return Means(workers, given)


def parse_memory(text: str) -> int:
    """`4G`, `512M`: bytes, in decimal units."""
    found = MEMORY_SIZE.pattern.fullmatch(text)
    if found is None:
        raise RequestError(f"MEMORY={text} {MEMORY_SIZE.fault}")
    return int(float(found[1]) * {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}[found[2].upper()])


def least_memory(workers: int) -> int:
    """Bytes below which the workers do not fit."""
    return BASE + workers * (WORKER + ROOM[0])


def mix(work: Path, names: list[str], seed: int, memory: int, buckets: int) -> Mixed:
    """Mix the lines of the shards `names` into the work folder's output.part, in at most `memory` bytes.

    `buckets`: so many are mixed; one behind them has the rows that are held out, and stays.
    `scratch.Torn` names a shard whose lines a crash has torn.
    """
    reader = scratch.Reader(work, names)
    sizes, total = reader.sizes[:buckets].tolist(), reader.starts[buckets]
    ahead = _ahead(max(sizes), memory)
    output = _Output(work, {bucket for bucket, size in enumerate(sizes) if not size}, total)
    left = deque(bucket for bucket in range(len(sizes)) if bucket not in output.done)
    progress, digest = Progress("mixing", total), hashlib.sha256()
    with (
        contextlib.closing(output),
        ThreadPoolExecutor(2) as fillers,
        ThreadPoolExecutor(1) as disk,
    ):
        _need_space(work, reader, list(left))
        filling: dict[int, Future[bytes]] = {}

        def fill_next() -> None:
            if left:
                bucket = left.popleft()
                filling[bucket] = fillers.submit(shuffled, reader, seed, bucket)

        for _ in range(ahead):
            fill_next()
        for bucket, (start, size) in enumerate(zip(reader.starts, sizes, strict=False)):
            if bucket in filling:
                text = filling.pop(bucket).result()
                storing = disk.submit(output.add, bucket, text, start)
                digest.update(text)
                storing.result()
                del text
                if parts := reader.unneeded(output.done):
                    output.settle()
                    reader.free(parts)
                fill_next()
            else:
                _hash(output.handle, start, size, digest)
            progress.add(size)
    progress.close()
    return Mixed(digest.hexdigest(), total, int(reader.rows[:buckets].sum()))


def _need_space(work: Path, reader: scratch.Reader, left: list[int]) -> None:
    """Refuse a disk too small for the output; its lines are removed part by part, as it grows."""
    size = sum(int(reader.sizes[bucket]) for bucket in left)
    files.need_space(work, size // scratch.parts(len(reader.sizes)), "the mixed file")


def _ahead(largest: int, memory: int) -> int:
    """How many buckets to hold at once; an OmrError says the least memory that serves one."""
    # A bucket's lines are there once as they were stored, and once in their new order.
    fit = (memory - MIXER) // (2 * largest)
    if fit < 1:
        raise OmrError(
            f"MEMORY={files.human(memory)} holds no bucket of {files.human(largest)};"
            f" run again with MEMORY={-(-(MIXER + 2 * largest) // 10**6)}M or more, it goes on from here"
        )
    return min(fit, AHEAD)


def _hash(handle: int, start: int, size: int, digest: "hashlib._Hash") -> None:
    """Feed a stretch of the output to the digest."""
    view = memoryview(bytearray(1 << 20))
    end = start + size
    while start < end:
        got = os.preadv(handle, [view[: min(len(view), end - start)]], start)
        if not got:
            raise OmrError("the mixed file is shorter than it was written; run again")
        digest.update(view[:got])
        start += got


class _Output:
    """The output as it grows, and which buckets are in it, empty ones too: a file with a line for each."""

    def __init__(self, work: Path, empty: set[int], size: int) -> None:
        self.path = work / "mixed"
        lines = self.path.read_bytes().split(b"\n") if self.path.exists() else []
        self.done = set(empty)
        if (work / PART).exists():
            # A last line without its newline was cut; a crash of the machine may have left zeros.
            self.done |= {int(line) for line in lines[:-1] if line.isdigit()}
        files.write_text(self.path, "".join(f"{bucket}\n" for bucket in sorted(self.done)))
        self.marks = self.path.open("ab", buffering=0)
        self.handle = os.open(work / PART, os.O_RDWR | os.O_CREAT, 0o666)
        os.ftruncate(self.handle, size)

    def add(self, bucket: int, text: bytes, place: int) -> None:
        """Write a bucket to its place, and let it count once it is on the disk."""
        view, at = memoryview(text), 0
        while at < len(text):
            written = os.pwrite(self.handle, view[at : at + PIECE], place + at)
            # The disk begins with it at once. It is not read again, and the lines that wait for their turn
            # are better cached in its place.
            os.posix_fadvise(self.handle, place + at, written, os.POSIX_FADV_DONTNEED)
            at += written
        os.fdatasync(self.handle)
        os.posix_fadvise(self.handle, place, len(text), os.POSIX_FADV_DONTNEED)
        self.marks.write(b"%d\n" % bucket)
        self.done.add(bucket)

    def settle(self) -> None:
        """Have the disk keep what counts, before the lines that it was made of go."""
        os.fsync(self.marks.fileno())

    def close(self) -> None:
        """Give the files back."""
        self.marks.close()
        os.close(self.handle)


def shuffled(reader: scratch.Reader, seed: int, bucket: int) -> bytes:
    """A bucket's text in its new order, which depends on (seed, bucket, number of lines) alone."""
    lines = []
    for segment in reader.segments(bucket):
        text, end = memoryview(segment.text), 0
        for length in segment.lengths.tolist():
            start, end = end, end + length
            lines.append(text[start:end])
    return b"".join([lines[number] for number in order(len(lines), seed, bucket).tolist()])


def order(count: int, seed: int, bucket: int) -> "np.ndarray":
    """The order in which shuf puts the `count` lines of a bucket, as numbers from 0."""
    import numpy as np

    # shuf draws at most 4 bytes for a line, and now and then some again.
    random = hashlib.shake_256(f"{seed} {bucket}".encode()).digest(16 * count + 1024)
    command = ["shuf", f"--input-range=0-{count - 1}", "--random-source=/dev/stdin"]
    done = subprocess.run(command, input=random, capture_output=True)
    drawn = np.array(done.stdout.split(), np.int64)
    if done.returncode or len(drawn) != count:
        said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise OmrError(f"shuf failed ({said}); check that `shuf --version` works, then run again to go on")
    return drawn


def need_shuf() -> None:
    """A RequestError where GNU shuf is not there (another one may not know --random-source)."""
    path = shutil.which("shuf")
    said = (
        subprocess.run([path, "--version"], capture_output=True, text=True, errors="replace").stdout
        if path
        else ""
    )
    if "coreutils" not in said:
        raise RequestError("GNU shuf is not installed; install coreutils")


def shuf_version() -> str:
    """`shuf (GNU coreutils) 9.1`."""
    return subprocess.run(
        ["shuf", "--version"], capture_output=True, text=True, errors="replace"
    ).stdout.split("\n")[0]
