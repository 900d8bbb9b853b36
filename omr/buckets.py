"""The scratch of the mix: each shard's lines, apart by bucket, with an index that is written last.

A row's bucket depends on (seed, shard name, row number) alone. A shard's file holds one segment per
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
        self.aside = folder / f".{name}.{socket.gethostname()}.{os.getpid()}.tmp"
        self.handle = self.aside.open("wb", buffering=0)
        self.codec = _codec(codec)
        self.rows: list[list] = [[] for _ in range(buckets)]
        self.held = self.place = 0
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
                index[bucket] = (self.place, len(stored), len(raw), len(rows), check)
                _write(self.handle, stored)
                self.place += len(stored)
                rows.clear()
        self.index.append(index)
        self.held = 0

    def close(self, facts: dict) -> None:
        """Give the files their final names; `facts` come last and mean that the shard is done."""
        import numpy as np

        if any(self.rows):
            self.flush()
        self.handle.close()
        index = np.array(self.index) if self.index else np.zeros((0, self.buckets), INDEX)
        with files.writing(self.folder / f"{self.name}.npy") as aside, aside.open("wb") as handle:
            np.save(handle, index)
        self.aside.replace(self.folder / f"{self.name}.lines")
        files.write_text(self.folder / f"{self.name}.json", json.dumps(facts))

    def abandon(self) -> None:
        """Leave nothing behind."""
        self.handle.close()
        self.aside.unlink(missing_ok=True)


class Reader:
    """All shards' segments, in the order of the shards' names as given."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        import numpy as np

        self.shards = []
        for name in names:
            index = np.load(folder / f"{name}.npy", mmap_mode="r")
            self.shards.append((name, folder / f"{name}.lines", index))
        self.raw = sum(index["raw"].astype(np.int64).sum(axis=0) for _, _, index in self.shards)
        self.rows = sum(index["rows"].astype(np.int64).sum(axis=0) for _, _, index in self.shards)
        self.starts: list[int] = [0, *np.cumsum(self.raw).tolist()]  # of each bucket in the output

    def segments(self, bucket: int) -> Iterator[tuple]:
        """The bucket's (shard's name, open file, entry of the index), shard by shard, in row order."""
        for name, path, index in self.shards:
            wanted = [entry for entry in index[:, bucket] if entry["rows"]]
            if wanted:
                with path.open("rb", buffering=0) as handle:
                    for entry in wanted:
                        yield name, handle, entry

    def feed(self, bucket: int, pipe: BinaryIO) -> None:
        """Write the bucket's lines into an unbuffered pipe; `Torn` names a damaged shard."""
        for name, handle, entry in self.segments(bucket):
            offset, size = int(entry["offset"]), int(entry["stored"])
            if entry["check"]:
                stored = os.pread(handle.fileno(), size, offset)
                if len(stored) != size or zlib.crc32(stored) != entry["check"]:
                    raise Torn(name)
                _write(pipe, _codec("zstd").decompress(stored, int(entry["raw"]), asbytes=True))
            else:
                while size:
                    moved = _splice(handle, pipe, offset, size)
                    if not moved:
                        raise Torn(name)
                    offset, size = offset + moved, size - moved


def _write(handle: BinaryIO, data: bytes) -> None:
    """All of it, into an unbuffered file."""
    left = memoryview(data)
    while left:
        left = left[handle.write(left) :]


def _splice(handle: BinaryIO, pipe: BinaryIO, offset: int, size: int) -> int:
    """Move bytes of a file into a pipe, within the kernel where it can; returns how many."""
    try:
        return os.splice(handle.fileno(), pipe.fileno(), size, offset_src=offset)
    except (AttributeError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
    data = os.pread(handle.fileno(), min(size, 1 << 20), offset)
    _write(pipe, data)
    return len(data)


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
    for suffix in ("json", "npy", "lines"):
        (folder / f"{name}.{suffix}").unlink(missing_ok=True)
