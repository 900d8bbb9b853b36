"""Parquet -> seeded buckets -> shuf -> one file, in constant memory, going on wherever it was killed.

The work folder holds `plan.json` (what the output is made from; another plan starts anew), a shard's
lines as omr/buckets.py keeps them, the output as it grows, and `mixed`, a line for each finished bucket.
The output's bytes depend on the plan alone: not on workers, memory, restarts or machines.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from omr import buckets, files, shards, shuffle
from omr.errors import OmrError, RequestError
from omr.progress import Progress
from omr.raw import Shard

BASE = 120_000_000  # bytes: the parent process and its libraries
WORKER = 110_000_000  # bytes: a worker without its lines
ROOM = (8_000_000, 64_000_000)  # bytes of lines a worker holds: least, most
EACH = 220_000_000  # bytes a worker, unless MEMORY says otherwise
MIXER = 90_000_000  # bytes: a process that feeds shuf, without its bucket
SHUF = 1.3  # shuf's memory for a bucket, in buckets


@dataclass(frozen=True)
class Means:
    """What the machine gives: it decides speed, never bytes."""

    workers: int
    memory: int  # bytes for the whole process tree

    @property
    def room(self) -> int:
        """Bytes of lines that each worker may hold."""
        share = (self.memory - BASE) // self.workers - WORKER
        # A flush holds the lines and, bucket by bucket, their joined and compressed form.
        return max(ROOM[0], min(ROOM[1], int(share * 0.8)))


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
    return BASE + workers * (WORKER + ROOM[0])


def format_shards(
    job: shards.Job, todo: list[tuple[Shard, int]], means: Means, limit: Callable[[int], None]
) -> None:
    """Format each (shard, rows to take) that is not done yet, several at once; `limit` is told of bad rows."""
    left = [(shard, take) for shard, take in todo if buckets.done(job.work, shard.name) is None]
    progress = Progress("formatting", sum(shard.size for shard, _ in todo))
    progress.start(progress.total - sum(shard.size for shard, _ in left))
    bad = sum(_bad(facts) for shard, _ in todo if (facts := buckets.done(job.work, shard.name)))
    limit(bad)
    if not left:
        return
    job = replace(job, room=means.room)
    with _pool(min(means.workers, len(left)), shards.start, job) as pool:
        # Large shards first, so that the last ones to finish are small.
        order = sorted(left, key=lambda each: -each[0].size)
        waiting = {pool.submit(shards.work, *each): each[0] for each in order}
        while waiting:
            finished, _ = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in finished:
                bad += _bad(future.result())
                limit(bad)
                progress.add(waiting.pop(future).size)
            progress.add(0)
    progress.close()


@contextlib.contextmanager
def _pool(workers: int, start: Callable, *words: object) -> Iterator[ProcessPoolExecutor]:
    """Worker processes; an error or an interrupt ends them at once."""
    pool = ProcessPoolExecutor(workers, get_context("spawn"), start, words)
    try:
        yield pool
        pool.shutdown()
    except BrokenProcessPool:
        raise OmrError(
            "a process of the data stage was killed (out of memory?); run again to go on, with fewer WORKERS"
        ) from None
    finally:
        for process in (pool._processes or {}).values():
            process.kill()
        pool.shutdown(cancel_futures=True)


def _bad(facts: dict) -> int:
    return sum(entry["rows"] for entry in facts["rejected"])


def mix(work: Path, names: list[str], seed: int, means: Means) -> dict:
    """Mix the shards' lines into `work`/output.part; returns sha256, size and rows.

    `buckets.Torn` names a shard whose scratch a crash has torn.
    """
    reader = buckets.Reader(work, names)
    sizes, total = reader.raw.tolist(), int(reader.raw.sum())
    at_once = _at_once(max(sizes), means)
    mixed = shuffle.Mixed(work)
    left = [bucket for bucket in range(len(sizes)) if sizes[bucket] and bucket not in mixed.done]
    files.need_space(work, sum(sizes[bucket] for bucket in left), "the mixed file")
    output = os.open(work / shuffle.PART, os.O_RDWR | os.O_CREAT, 0o666)
    progress = Progress("mixing", total)
    digest = hashlib.sha256()
    try:
        os.ftruncate(output, total)
        with _pool(max(1, min(at_once, len(left))), shuffle.start, work, names, seed) as pool:
            futures = {bucket: pool.submit(shuffle.bucket, bucket) for bucket in left}
            start = 0
            for bucket, size in enumerate(sizes):
                if bucket in futures:
                    futures.pop(bucket).result()
                    mixed.add(bucket)
                _hash(output, start, size, digest, progress)
                start += size
        os.fsync(output)
    finally:
        os.close(output)
    progress.close()
    return {"sha256": digest.hexdigest(), "size": total, "rows": int(reader.rows.sum())}


def _at_once(largest: int, means: Means) -> int:
    """Buckets to shuffle at once; an OmrError says the least memory that serves one."""
    each = int(largest * SHUF) + MIXER
    fit = (means.memory - BASE) // each
    if fit < 1:
        raise OmrError(
            f"MEMORY={files.human(means.memory)} holds no bucket of {files.human(largest)};"
            f" run again with MEMORY={-(-(BASE + each) // 10**6)}M or more, it goes on from here"
        )
    return min(fit, means.workers)


def _hash(handle: int, start: int, size: int, digest: object, progress: Progress) -> None:
    """Feed a stretch of the output to the digest; it was just written, so this reads the page cache."""
    view = memoryview(bytearray(1 << 20))
    end = start + size
    while start < end:
        got = os.preadv(handle, [view[: min(len(view), end - start)]], start)
        if not got:
            raise OmrError("the mixed file is shorter than it was written; run again")
        digest.update(view[:got])
        start += got
        progress.add(got)


def need_shuf() -> None:
    """A RequestError where GNU shuf is not there (another one may not know --random-source)."""
    path = shutil.which("shuf")
    said = subprocess.run([path, "--version"], capture_output=True, text=True).stdout if path else ""
    if "coreutils" not in said:
        raise RequestError("GNU shuf is not installed; install coreutils")


def shuf_version() -> str:
    """`shuf (GNU coreutils) 9.1`."""
    return subprocess.run(["shuf", "--version"], capture_output=True, text=True).stdout.split("\n")[0]


def in_child(function: Callable, *words: object) -> object:
    """Call in a process of its own: what it imports and holds is gone when it ends."""
    with _pool(1, shards.die_with_parent) as pool:
        return pool.submit(function, *words).result()


def lines_of(path: Path) -> Iterator[dict]:
    """The rows of an SFT file, one at a time."""
    with path.open(encoding="utf-8", newline="\n") as handle:
        for line in handle:
            yield json.loads(line)
