"""The scratch of the mix: each shard's lines, apart by bucket, with an index that is written last.

A row's bucket depends on (seed, shard name, row number) alone. A shard's files hold one segment per
bucket and flush; rows keep their order inside a bucket. What a crash of the machine tore is noticed by
the segments' checksums, and the shard is made again.
"""

import functools
import hashlib
import json
import os
import socket
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from omr import files

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

BUCKET = 64_000_000  # bytes of raw text for each bucket, about
CODECS = ("zstd", "none")
PARTS = 32  # files of a shard's lines, at most: each goes as soon as its buckets are in the output
INDEX = [("offset", "<u8"), ("stored", "<u4"), ("raw", "<u4"), ("rows", "<u4"), ("check", "<u4")]


class Torn(Exception):
    """A shard's scratch is not what its index says."""


def how_many(raw_bytes: int) -> int:
    """Buckets for an input of this many bytes of text."""
    return max(1, -(-raw_bytes // BUCKET))


def choose(seed: int, shard: str, rows: "np.ndarray", buckets: int) -> "np.ndarray":
    """The bucket of each row number of a shard."""
    import numpy as np

    key = hashlib.blake2b(f"{seed} {shard}".encode(), digest_size=8).digest()
    with np.errstate(over="ignore"):
        # The finaliser of SplitMix64 (Steele, Lea, Flood 2014) over a keyed counter.
        x = rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(int.from_bytes(key, "little"))
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return ((x >> np.uint64(32)) * np.uint64(buckets) >> np.uint64(32)).astype(np.int64)


class Writer:
    """Collects a shard's rows and writes their lines by bucket, about `room` bytes at a time.

    `fill` makes lines of what `add` is given.
    """

    def __init__(
        self, folder: Path, name: str, buckets: int, room: int, codec: str, fill: Callable[[list], bytes]
    ) -> None:
        self.folder, self.name, self.buckets, self.room, self.fill = folder, name, buckets, room, fill
        mine = f"{socket.gethostname()}.{os.getpid()}.tmp"
        self.asides = [folder / f".{name}.{part}.{mine}" for part in range(parts(buckets))]
        self.handles = [aside.open("wb", buffering=0) for aside in self.asides]
        self.codec = _codec(codec)
        self.rows: list[list] = [[] for _ in range(buckets)]
        self.held = 0
        self.index: list[np.ndarray] = []

    def add(self, rows: list, buckets: "np.ndarray", size: int) -> None:
        """Rows, the bucket of each, and the bytes of all, about."""
        for row, bucket in zip(rows, buckets.tolist(), strict=True):
            self.rows[bucket].append(row)
        self.held += size
        if self.held >= self.room:
            self.flush()

    def flush(self) -> None:
        """Write what has come together."""
        import numpy as np

        index = np.zeros(self.buckets, INDEX)
        for bucket, rows in enumerate(self.rows):
            if rows:
                stored = raw = self.fill(rows)
                check = 0
                if self.codec:
                    stored = self.codec.compress(raw, asbytes=True)
                    check = zlib.crc32(stored)
                handle = self.handles[part_of(bucket, self.buckets)]
                index[bucket] = (handle.tell(), len(stored), len(raw), len(rows), check)
                _write(handle, stored)
                rows.clear()
        self.index.append(index)
        self.held = 0

    def close(self, facts: dict) -> None:
        """Give the files their final names; `facts` come last and mean that the shard is done."""
        import numpy as np

        if any(self.rows):
            self.flush()
        index = np.array(self.index) if self.index else np.zeros((0, self.buckets), INDEX)
        with files.writing(self.folder / f"{self.name}.npy") as aside, aside.open("wb") as handle:
            np.save(handle, index)
        for part, (aside, handle) in enumerate(zip(self.asides, self.handles, strict=True)):
            handle.close()
            aside.replace(lines_of(self.folder, self.name, part))
        files.write_text(self.folder / f"{self.name}.json", json.dumps(facts))

    def abandon(self) -> None:
        """Leave nothing behind."""
        for aside, handle in zip(self.asides, self.handles, strict=True):
            handle.close()
            aside.unlink(missing_ok=True)


class Reader:
    """All shards' segments, in the order of the shards' names as given."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        import numpy as np

        self.folder = folder
        self.shards = [(name, np.load(folder / f"{name}.npy", mmap_mode="r")) for name in names]
        self.raw, self.rows, self.stored = (
            sum(index[key].astype(np.int64).sum(axis=0) for _, index in self.shards)
            for key in ("raw", "rows", "stored")
        )  # bytes of lines, lines, and bytes of scratch of each bucket
        self.starts: list[int] = [0, *np.cumsum(self.raw).tolist()]  # of each bucket in the output
        self.parts = set(range(parts(len(self.raw))))  # not freed yet

    def segments(self, bucket: int) -> Iterator[tuple]:
        """The bucket's (shard's name, open file, entry of the index), shard by shard, in row order."""
        for name, index in self.shards:
            wanted = [entry for entry in index[:, bucket] if entry["rows"]]
            if wanted:
                path = lines_of(self.folder, name, part_of(bucket, len(self.raw)))
                try:
                    handle = path.open("rb", buffering=0)
                except FileNotFoundError:
                    raise Torn(name) from None
                with handle:
                    for entry in wanted:
                        yield name, handle, entry

    def read(self, bucket: int, room: memoryview) -> None:
        """Read the bucket's lines into `room`, which has their size; `Torn` names a damaged shard."""
        for name, handle, entry in self.segments(bucket):
            offset, stored, raw = (int(entry[key]) for key in ("offset", "stored", "raw"))
            if entry["check"]:
                data = os.pread(handle.fileno(), stored, offset)
                if len(data) != stored or zlib.crc32(data) != entry["check"]:
                    raise Torn(name)
                room[:raw] = memoryview(_codec("zstd").decompress(data, raw)).cast("B")
            elif _read(handle, room[:raw], offset) < raw:
                raise Torn(name)
            room = room[raw:]

    def free(self, done: set[int]) -> None:
        """Remove the lines of which no bucket is needed any more: those not in `done` are."""
        needed = {part_of(bucket, len(self.raw)) for bucket in range(len(self.raw)) if bucket not in done}
        for part in self.parts - needed:
            for name, _ in self.shards:
                lines_of(self.folder, name, part).unlink(missing_ok=True)
        self.parts &= needed


def parts(buckets: int) -> int:
    """Files of a shard's lines."""
    return min(PARTS, buckets)


def part_of(bucket: int, buckets: int) -> int:
    """Which of a shard's files holds a bucket."""
    return bucket * parts(buckets) // buckets


def lines_of(folder: Path, name: str, part: int) -> Path:
    """One of the files that hold a shard's lines."""
    return folder / f"{name}.{part}.lines"


def _write(handle: BinaryIO, data: bytes) -> None:
    """All of it, into an unbuffered file."""
    left = memoryview(data)
    while left:
        left = left[handle.write(left) :]


def _read(handle: BinaryIO, room: memoryview, offset: int) -> int:
    """Fill `room` from a place in a file; returns how many bytes there were."""
    done = 0
    while done < len(room) and (got := os.preadv(handle.fileno(), [room[done:]], offset + done)):
        done += got
    return done


@functools.cache
def _codec(name: str) -> "pa.Codec | None":
    import pyarrow as pa

    return None if name == "none" else pa.Codec(name)


def done(folder: Path, name: str) -> dict | None:
    """The facts of a finished shard."""
    path = folder / f"{name}.json"
    return files.read_json(path) if path.exists() else None


def undo(folder: Path, name: str) -> None:
    """Forget a shard: its facts first."""
    for suffix in ("json", "npy"):
        (folder / f"{name}.{suffix}").unlink(missing_ok=True)
    for lines in folder.glob(f"{name}.*.lines"):
        lines.unlink()
