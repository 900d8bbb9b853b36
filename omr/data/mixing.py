"""Parquet -> seeded buckets -> shuf -> one file, in constant memory, going on wherever it was killed.

The work folder holds `plan.json` (what the output is made from; another plan starts anew), a shard's
lines as omr/data/scratch.py keeps them, the output as it grows, and `mixed`, a line for each finished bucket.
Once a bucket is on the disk its lines go, so that scratch and output never stand there whole together.
The output's bytes depend on the plan alone: not on workers, memory, restarts or machines.
"""

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from omr import files
from omr.data import direct_io, formatting, scratch, shuffle
from omr.data.corpus import Shard
from omr.errors import OmrError, RequestError
from omr.progress import Progress

BASE = 170_000_000  # bytes: the parent process, and the one that forks the workers
WORKER = 136_000_000  # bytes: a worker without its lines
ROOM = (8_000_000, 64_000_000)  # bytes of lines a worker holds, twice (omr/data/scratch.py): least, most
EACH = 200_000_000  # bytes a worker, unless MEMORY says otherwise
MIXER = 100_000_000  # bytes: the process that mixes, without the buckets it holds
AHEAD = 3  # buckets to hold beyond the workers': one is hashed and written, others wait for the disk
PAGE_CACHE = 0.5  # share of the free memory that scratch may take as page cache
# Bytes a second of a disk for each worker, above which compressing takes longer than it saves. zstd packs
# the rows of bench/corpus.py at 0.57 GB/s a core and unpacks them at 2.0: 2.25 seconds a GB. It spares a
# write and a read of 77% of them, and of real texts, which repeat themselves less, of 60% (a guess).
PACKING = 530_000_000


@dataclass(frozen=True)
class Means:
    """What the machine gives: it decides speed, never bytes."""

    workers: int
    memory: int  # bytes for the whole process tree

    @property
    def room(self) -> int:
        """Bytes of lines that each worker may hold."""
        share = (self.memory - BASE) // self.workers - WORKER
        return max(ROOM[0], min(ROOM[1], share // 2))


def means(workers: int | None, memory: str | None) -> Means:
    """WORKERS and MEMORY, or the cores and a modest share for each; a RequestError for what cannot work."""
    workers = workers or len(os.sched_getaffinity(0))
    given = parse_memory(memory) if memory else BASE + workers * EACH
    if given < (least := least_memory(1)):
        raise RequestError(f"MEMORY={memory} is too little; one worker needs {least // 10**6}M")
    while least_memory(workers) > given:
        workers -= 1
    return Means(workers, given)


def parse_memory(text: str) -> int:
    """`4G`, `512M`: bytes, in decimal units."""
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    try:
        return int(float(number) * {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}[unit])
    except (KeyError, ValueError):
        raise RequestError(f"MEMORY={text} is no amount of memory; write 512M or 4G") from None


def least_memory(workers: int) -> int:
    """Bytes below which the workers do not fit."""
    return BASE + workers * (WORKER + 2 * ROOM[0])


def format_shards(
    pool: Executor,
    job: formatting.Job,
    todo: list[tuple[Shard, int]],
    hashes: dict[str, str],
    limit: Callable[[int], None],
) -> None:
    """Format each (shard, rows to take) that is not done yet; `limit` is told the number of bad rows."""
    left = [(shard, take) for shard, take in todo if scratch.done(job.work, shard.name) is None]
    progress = Progress("formatting", sum(shard.size for shard, _ in todo))
    progress.start(progress.total - sum(shard.size for shard, _ in left))
    bad = sum(_bad(facts) for shard, _ in todo if (facts := scratch.done(job.work, shard.name)))
    limit(bad)
    # Large shards first, so that the last ones to finish are small.
    order = sorted(left, key=lambda each: -each[0].size)
    waiting = {pool.submit(formatting.run, job, *each, hashes.get(each[0].name)): each[0] for each in order}
    while waiting:
        finished, _ = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
        for future in finished:
            bad += _bad(future.result())
            limit(bad)
            progress.add(waiting.pop(future).size)
        progress.add(0)
    progress.close()


def _bad(facts: dict) -> int:
    return sum(entry["rows"] for entry in facts["rejected"])


def mix(job: formatting.Job, names: list[str], means: Means) -> dict:
    """Mix the shards' lines into the work folder's output.part; returns sha256, size and rows.

    `buckets.Torn` names a shard whose scratch a crash has torn.
    """
    reader = scratch.Reader(job.work, names, job.codec)
    sizes, starts, total = reader.raw.tolist(), reader.starts, reader.starts[-1]
    rooms = _rooms(max(sizes) + reader.segment, means)
    mixed = shuffle.Mixed(job.work, {bucket for bucket, size in enumerate(sizes) if not size}, total)
    left = [bucket for bucket in range(len(sizes)) if bucket not in mixed.done]
    progress, digest = Progress("mixing", total), hashlib.sha256()

    with (
        contextlib.closing(mixed),
        ThreadPoolExecutor(rooms) as fillers,
        ThreadPoolExecutor(1) as disk,
        ThreadPoolExecutor(1) as broom,
    ):
        _need_space(job.work, reader, left)
        waiting, filling = iter(left), {}

        def fill_next(room: shuffle.Room) -> None:
            for bucket in itertools.islice(waiting, 1):
                filling[bucket] = room, fillers.submit(room.fill, reader, job.seed, bucket)

        for _ in range(min(rooms, len(left))):
            fill_next(shuffle.Room(reader))
        for bucket, size in enumerate(sizes):
            if bucket in filling:
                room, text = filling.pop(bucket)
                storing = disk.submit(mixed.add, bucket, text.result(), starts[bucket])
                digest.update(text.result())
                storing.result()
                broom.submit(reader.free, frozenset(mixed.done))
                fill_next(room)
            else:
                _hash(mixed.file.plain, starts[bucket], size, digest)
            progress.add(size)
        mixed.settle()
    reader.free(mixed.done)
    progress.close()
    return {"sha256": digest.hexdigest(), "size": total, "rows": int(reader.rows.sum())}


def _need_space(work: Path, reader: scratch.Reader, left: list[int]) -> None:
    """Refuse a disk too small for the output's growth, less the scratch that goes meanwhile."""
    grows, goes = (sum(int(of[bucket]) for bucket in left) for of in (reader.raw, reader.stored))
    files.need_space(work, max(0, grows - goes) + grows // scratch.parts(len(reader.raw)), "the mixed file")


def _rooms(largest: int, means: Means) -> int:
    """How many buckets to hold at once; an OmrError says the least memory that serves one."""
    fit = (means.memory - MIXER) // largest
    if fit < 1:
        raise OmrError(
            f"MEMORY={files.human(means.memory)} holds no bucket of {files.human(largest)};"
            f" run again with MEMORY={-(-(MIXER + largest) // 10**6)}M or more, it goes on from here"
        )
    return min(fit, means.workers + AHEAD)


def _hash(handle: int, start: int, size: int, digest: object) -> None:
    """Feed a stretch of the output to the digest."""
    view = memoryview(bytearray(1 << 20))
    end = start + size
    while start < end:
        got = os.preadv(handle, [view[: min(len(view), end - start)]], start)
        if not got:
            raise OmrError("the mixed file is shorter than it was written; run again")
        digest.update(view[:got])
        start += got


def codec(size: int, work: Path, workers: int) -> str:
    """How to keep `size` bytes of lines until they are mixed (scratch.py): whatever is soonest here."""
    if size < PAGE_CACHE * _free_memory():
        return "cached"
    return "none" if direct_io.speed(work) > workers * PACKING else "zstd"


def _free_memory() -> int:
    """Bytes that this machine, or this process's share of it, has free; 0 where the system does not tell."""
    told, cgroup = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
    lines = told.read_text().splitlines() if told.exists() else []
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), 0)
    if cgroup.exists() and (most := cgroup.read_text().strip()).isdigit():
        free = min(free, int(most))
    return free


def need_shuf() -> None:
    """A RequestError where GNU shuf is not there (another one may not know --random-source)."""
    path = shutil.which("shuf")
    said = subprocess.run([path, "--version"], capture_output=True, text=True).stdout if path else ""
    if "coreutils" not in said:
        raise RequestError("GNU shuf is not installed; install coreutils")


def shuf_version() -> str:
    """`shuf (GNU coreutils) 9.1`."""
    return subprocess.run(["shuf", "--version"], capture_output=True, text=True).stdout.split("\n")[0]


def lines_of(path: Path) -> Iterator[dict]:
    """The rows of an SFT file, one at a time."""
    with path.open(encoding="utf-8", newline="\n") as handle:
        for line in handle:
            yield json.loads(line)
