"""The scratch of the mix: each shard's lines, apart by bucket, with an index that is written last.

A row's bucket depends on (seed, shard name, row number) alone. A shard's files hold one segment per
bucket and flush; rows keep their order inside a bucket. What a crash of the machine tore is noticed by
the segments' checksums, and the shard is made again.
"""

import contextlib
import functools
import hashlib
import itertools
import json
import os
import socket
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from omr import files
from omr.data import direct_io

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from omr.data.json_lines import Source

BUCKET = 64_000_000  # bytes of raw text for each bucket, about
# How a shard's lines are kept: as they are in the page cache, as they are past it, compressed past it.
CODECS = ("cached", "none", "zstd")
PARTS = 8  # files of a shard's lines, at most: each goes as soon as its buckets are in the output
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


class Memory:
    """What a Writer fills with lines, and from where it writes them, sorted, while it fills the first again.

    A process has one for all its shards: memory that is new is slow.
    """

    def __init__(self, room: int) -> None:
        self.lines, self.sorted = direct_io.memory(room), direct_io.memory(0)


class Writer:
    """Collects a shard's lines in memory and writes them by bucket whenever it is full."""

    def __init__(self, folder: Path, name: str, buckets: int, memory: Memory, codec: str) -> None:
        import numpy as np

        self.folder, self.name, self.buckets = folder, name, buckets
        mine = f"{socket.gethostname()}.{os.getpid()}.tmp"
        self.asides = [folder / f".{name}.{part}.{mine}" for part in range(parts(buckets))]
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        self.codec = codec
        self.files = [direct_io.File(aside, flags, codec == "cached") for aside in self.asides]
        self.sizes = [0] * len(self.files)
        self.memory, self.used = memory, 0
        self.text = np.frombuffer(memory.lines, np.uint8)
        self.ends: list[np.ndarray] = []  # of the lines in `text`
        self.chosen: list[np.ndarray] = []  # their buckets
        self.index: list[np.ndarray] = []
        self.lengths: list[np.ndarray] = []  # of all lines, in the order in which they were stored
        self.aside = ThreadPoolExecutor(1)
        self.writing = self.aside.submit(int)

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
                self.text = np.empty(rows.need(first), np.uint8)  # a row that is larger than the memory

    def flush(self) -> None:
        """Write what has come together, while more comes."""
        import numpy as np

        if not self.used:
            return
        ends, chosen = np.concatenate(self.ends), np.concatenate(self.chosen)
        starts = np.concatenate(([0], ends[:-1]))
        order = np.argsort(chosen, kind="stable")  # rows keep their order inside a bucket
        starts, ends = starts[order], ends[order]
        self.lengths.append((ends - starts).astype("<u4"))
        text = memoryview(self.text)
        lines = [text[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        self.writing.result()
        last = np.cumsum(np.bincount(chosen, minlength=self.buckets)).tolist()
        index, place = np.zeros(self.buckets, INDEX), 0
        begins, firsts = [0] * (len(self.files) + 1), [0] * (len(self.files) + 1)  # bytes, lines of each file
        self._make_room()
        for bucket, (start, stop) in enumerate(itertools.pairwise([0, *last])):
            part = part_of(bucket, self.buckets)
            if start < stop:
                stored, *facts = self._store(lines[start:stop], place)
                index[bucket] = (self.sizes[part] + place - begins[part], stored, *facts)
                place += stored
            if bucket + 1 == self.buckets or part_of(bucket + 1, self.buckets) > part:
                begins[part + 1] = place = place if self.codec == "cached" else direct_io.above(place)
                firsts[part + 1] = stop
        self.index.append(index)
        if self.codec == "cached":
            for file, size, (a, b) in zip(self.files, self.sizes, itertools.pairwise(firsts), strict=True):
                file.write_all(lines[a:b], size)
        else:
            self.writing = self.aside.submit(self._write, begins, self.sizes)
        grown = [stop - start for start, stop in itertools.pairwise(begins)]
        self.sizes = [size + more for size, more in zip(self.sizes, grown, strict=True)]
        self.ends, self.chosen, self.used = [], [], 0

    def _make_room(self) -> None:
        """Memory from which the lines are written past the page cache."""
        if self.codec == "cached":
            return
        # zstd makes nothing larger than this; each file begins its own block.
        room = self.used + (self.used >> 7) + 64 * self.buckets + direct_io.BLOCK * len(self.files)
        if len(self.memory.sorted) < room:
            self.memory.sorted = direct_io.memory(room)

    def _store(self, lines: list[memoryview], place: int) -> tuple[int, int, int, int]:
        """Put a bucket's lines to a place in `memory.sorted`; bytes stored, bytes, lines, checksum."""
        size = sum(map(len, lines))
        if self.codec == "zstd":
            packed = _zstd().compress(b"".join(lines), asbytes=True)
            self.memory.sorted[place : place + len(packed)] = packed
            return len(packed), size, len(lines), _check(packed)
        if self.codec == "none":
            for line in lines:
                self.memory.sorted[place : place + len(line)] = line
                place += len(line)
        return size, size, len(lines), 0

    def _write(self, begins: list[int], sizes: list[int]) -> None:
        for file, size, (start, stop) in zip(self.files, sizes, itertools.pairwise(begins), strict=True):
            file.write(self.memory.sorted[start:stop], size)

    def close(self, facts: dict) -> None:
        """Give the files their final names; `facts` come last and mean that the shard is done."""
        import numpy as np

        self.flush()
        self.writing.result()
        index = np.array(self.index) if self.index else np.zeros((0, self.buckets), INDEX)
        lengths = np.concatenate(self.lengths or [np.zeros(0, "<u4")])
        for suffix, array in (("index", index), ("lengths", lengths)):
            with (
                files.writing(self.folder / f"{self.name}.{suffix}.npy") as aside,
                aside.open("wb") as handle,
            ):
                np.save(handle, array)
        self._end()
        for part, aside in enumerate(self.asides):
            aside.replace(lines_of(self.folder, self.name, part))
        files.write_text(self.folder / f"{self.name}.json", json.dumps(facts))

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._end()
        for aside in self.asides:
            aside.unlink(missing_ok=True)

    def _end(self) -> None:
        self.aside.shutdown()
        while self.files:
            self.files.pop().close()


class Reader:
    """All shards' segments, in the order of the shards' names as given."""

    def __init__(self, folder: Path, names: Iterable[str], codec: str) -> None:
        import numpy as np

        self.folder, self.cached = folder, codec == "cached"
        self.shards = [(name, np.load(folder / f"{name}.index.npy", mmap_mode="r")) for name in names]
        self.raw, self.rows, self.stored = (
            sum(index[key].astype(np.int64).sum(axis=0) for _, index in self.shards)
            for key in ("raw", "rows", "stored")
        )  # bytes of lines, lines, and bytes of scratch of each bucket
        self.starts: list[int] = [0, *np.cumsum(self.raw).tolist()]  # of each bucket in the output
        self.segment = max(
            (int(i["stored"].max()) for _, i in self.shards if len(i)), default=0
        )  # the largest
        self.parts = set(range(parts(len(self.raw))))  # not freed yet
        self.lengths = {}  # of each shard's lines as stored, and where those of each entry begin
        for name, index in self.shards:
            stored = np.load(folder / f"{name}.lengths.npy", mmap_mode="r")
            ends = np.cumsum(index["rows"], dtype=np.int64).reshape(index.shape)
            self.lengths[name] = stored, ends - index["rows"]

    def segments(self, bucket: int) -> Iterator[tuple[str, "np.void", "np.ndarray"]]:
        """A bucket's segments in row order, shard by shard: its name, the index's entry, lines' lengths."""
        import numpy as np

        for name, index in self.shards:
            stored, firsts = self.lengths[name]
            for flush in np.flatnonzero(index["rows"][:, bucket]):
                first, entry = int(firsts[flush, bucket]), index[flush, bucket]
                yield name, entry, stored[first : first + int(entry["rows"])]

    def texts(self, bucket: int, window: memoryview) -> Iterator[memoryview]:
        """The text of each segment of a bucket; `window` is memory for one.

        `Torn` names a shard whose scratch is damaged.
        """
        for name, entries in itertools.groupby(self.segments(bucket), key=lambda segment: segment[0]):
            try:
                path = lines_of(self.folder, name, part_of(bucket, len(self.raw)))
                file = direct_io.File(path, os.O_RDONLY, self.cached)
            except FileNotFoundError:
                raise Torn(name) from None
            with contextlib.closing(file):
                for _, entry, _ in entries:
                    offset, stored, raw, check = (int(entry[k]) for k in ("offset", "stored", "raw", "check"))
                    text = file.read(window, offset, stored)
                    if len(text) != stored or (check and _check(text) != check):
                        raise Torn(name)
                    yield memoryview(_zstd().decompress(text, raw)).cast("B") if check else text

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


def _check(data: bytes) -> int:
    """CRC-32, never 0, which means that there is none."""
    return zlib.crc32(data) or 1


@functools.cache
def _zstd() -> "pa.Codec":
    import pyarrow as pa

    return pa.Codec("zstd")


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
