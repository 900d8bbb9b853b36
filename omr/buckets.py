"""The scratch of the mix: each shard's lines, apart by bucket, with an index that is written last.

A row's bucket depends on (seed, shard name, row number) alone. A shard's files hold one segment per
bucket and flush; rows keep their order inside a bucket. What a crash of the machine tore is noticed by
the segments' checksums, and the shard is made again.
"""

import functools
import hashlib
import itertools
import json
import os
import socket
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from omr import files

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from omr.escape import Source

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
    """Collects a shard's lines in `room` bytes of memory and writes them by bucket whenever these are full."""

    def __init__(self, folder: Path, name: str, buckets: int, room: int, codec: str) -> None:
        import numpy as np

        self.folder, self.name, self.buckets = folder, name, buckets
        mine = f"{socket.gethostname()}.{os.getpid()}.tmp"
        self.asides = [folder / f".{name}.{part}.{mine}" for part in range(parts(buckets))]
        self.handles = [aside.open("wb", buffering=0) for aside in self.asides]
        self.codec = _codec(codec)
        self.text, self.used = np.empty(room, np.uint8), 0
        self.ends: list[np.ndarray] = []  # of the lines in `text`
        self.chosen: list[np.ndarray] = []  # their buckets
        self.index: list[np.ndarray] = []
        self.lengths: list[np.ndarray] = []  # of all lines, in the order in which they were stored

    def add(self, rows: "Source", chosen: "np.ndarray") -> None:
        """Rows, and the bucket of each."""
        import numpy as np

        first = 0
        while first < len(rows):
            ends = np.empty(len(rows) - first, np.int64)
            took = rows.write(first, self.text, self.used, ends)
            if took:
                self.used = int(ends[took - 1])
                self.ends.append(ends[:took])
                self.chosen.append(chosen[first : first + took])
                first += took
            elif self.used:
                self.flush()
            else:
                self.text = np.empty(rows.need(first), np.uint8)  # a row that is larger than the room

    def flush(self) -> None:
        """Write what has come together."""
        import numpy as np

        if not self.used:
            return
        ends, chosen = np.concatenate(self.ends), np.concatenate(self.chosen)
        starts = np.concatenate(([0], ends[:-1]))
        order = np.argsort(chosen, kind="stable")  # rows keep their order inside a bucket
        self.lengths.append((ends - starts)[order].astype("<u4"))
        text = memoryview(self.text)
        lines = [text[a:b] for a, b in zip(starts[order].tolist(), ends[order].tolist(), strict=True)]
        index = np.zeros(self.buckets, INDEX)
        last = np.cumsum(np.bincount(chosen, minlength=self.buckets)).tolist()
        for bucket, (start, stop) in enumerate(itertools.pairwise([0, *last])):
            if start < stop:
                index[bucket] = self._store(bucket, lines[start:stop])
        self.index.append(index)
        self.ends, self.chosen, self.used = [], [], 0

    def _store(self, bucket: int, lines: list[memoryview]) -> tuple:
        """Write a bucket's lines behind what its file has; returns the entry of the index."""
        handle = self.handles[part_of(bucket, self.buckets)]
        offset, size, rows, check = handle.tell(), sum(map(len, lines)), len(lines), 0
        if self.codec:
            lines = [memoryview(self.codec.compress(b"".join(lines), asbytes=True))]
            check = _check(lines[0])
        handle.seek(stored := files.write_at(handle.fileno(), lines, offset))
        return offset, stored - offset, size, rows, check

    def close(self, facts: dict) -> None:
        """Give the files their final names; `facts` come last and mean that the shard is done."""
        import numpy as np

        self.flush()
        index = np.array(self.index) if self.index else np.zeros((0, self.buckets), INDEX)
        lengths = np.concatenate(self.lengths or [np.zeros(0, "<u4")])
        for suffix, array in (("index", index), ("lengths", lengths)):
            with files.writing(self.folder / f"{self.name}.{suffix}.npy") as aside, aside.open("wb") as handle:
                np.save(handle, array)
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
        self.shards = [(name, np.load(folder / f"{name}.index.npy", mmap_mode="r")) for name in names]
        self.raw, self.rows, self.stored = (
            sum(index[key].astype(np.int64).sum(axis=0) for _, index in self.shards)
            for key in ("raw", "rows", "stored")
        )  # bytes of lines, lines, and bytes of scratch of each bucket
        self.starts: list[int] = [0, *np.cumsum(self.raw).tolist()]  # of each bucket in the output
        self.parts = set(range(parts(len(self.raw))))  # not freed yet

    @functools.cached_property
    def lengths(self) -> "dict[str, tuple[np.ndarray, np.ndarray]]":
        """Of each shard its lines' lengths, as stored, and where those of each entry of the index begin."""
        import numpy as np

        found = {}
        for name, index in self.shards:
            ends = np.cumsum(index["rows"], dtype=np.int64).reshape(index.shape)
            stored = np.load(self.folder / f"{name}.lengths.npy", mmap_mode="r")
            found[name] = (stored, ends - index["rows"])
        return found

    def read(self, bucket: int, room: memoryview) -> "np.ndarray":
        """Read the bucket's lines into `room`, which has their size; returns where each of them ends.

        `Torn` names a shard whose scratch is damaged.
        """
        import numpy as np

        lengths = []
        for name, index in self.shards:
            wanted = np.flatnonzero(index["rows"][:, bucket])
            if not len(wanted):
                continue
            stored, firsts = self.lengths[name]
            try:
                handle = lines_of(self.folder, name, part_of(bucket, len(self.raw))).open("rb", buffering=0)
            except FileNotFoundError:
                raise Torn(name) from None
            with handle:
                for flush in wanted:
                    entry, first = index[flush, bucket], int(firsts[flush, bucket])
                    if not _segment(handle, entry, room):
                        raise Torn(name)
                    room = room[int(entry["raw"]) :]
                    lengths.append(stored[first : first + int(entry["rows"])])
        return np.cumsum(np.concatenate(lengths), dtype=np.int64)

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


def _segment(handle: BinaryIO, entry: "np.void", room: memoryview) -> bool:
    """Read one entry of the index into the beginning of `room`; False if the file is not what it says."""
    offset, stored, raw, check = (int(entry[key]) for key in ("offset", "stored", "raw", "check"))
    if not check:
        return files.read_at(handle.fileno(), room[:raw], offset) == raw
    data = os.pread(handle.fileno(), stored, offset)
    if len(data) != stored or _check(data) != check:
        return False
    room[:raw] = memoryview(_codec("zstd").decompress(data, raw)).cast("B")
    return True


def _check(data: bytes) -> int:
    """CRC-32, never 0, which means that there is none."""
    return zlib.crc32(data) or 1


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
    for suffix in ("json", "index.npy", "lengths.npy"):
        (folder / f"{name}.{suffix}").unlink(missing_ok=True)
    for lines in folder.glob(f"{name}.*.lines"):
        lines.unlink()
