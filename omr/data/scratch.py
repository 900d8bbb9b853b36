"""The scratch of the mix: each shard's lines, apart by bucket, with an index that is written last.

A row's bucket depends on (seed, shard name, row number) alone. A shard's files hold one segment per bucket
and flush; rows keep their order inside a bucket. Nothing waits for the disk: what a crash of the machine tore
is noticed by checksums of the segments and of what is known of them, and the shard is made again.
"""

import contextlib
import hashlib
import json
import os
import socket
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omr import files
from omr.errors import OmrError

if TYPE_CHECKING:
    import numpy as np

FORMAT = 2  # of the files below; those of another are made again
BUCKET = 64_000_000  # bytes of raw text for each bucket, about
PARTS = 8  # files of a shard's lines, at most: each goes as soon as its buckets are in the output
INDEX = [("offset", "<u8"), ("size", "<u4"), ("rows", "<u4"), ("check", "<u8")]


class Torn(Exception):
    """A shard's scratch is not what its index says."""


@dataclass(frozen=True)
class Segment:
    """Lines of one shard that lie in one bucket, in row order: their text, and the bytes of each line."""

    text: bytes
    lengths: "np.ndarray"


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
    """Collects a shard's lines by bucket, and writes them whenever they are more than `room` bytes."""

    def __init__(self, folder: Path, name: str, buckets: int, room: int) -> None:
        self.folder, self.name, self.buckets, self.room = folder, name, buckets, room
        mine = f"{socket.gethostname()}.{os.getpid()}.tmp"
        self.asides = [folder / f".{name}.{part}.{mine}" for part in range(parts(buckets))]
        self.files = [aside.open("wb") for aside in self.asides]
        self.held: list[list[bytes | memoryview]] = [[] for _ in range(buckets)]
        self.size = 0  # bytes held
        self.index: list[np.ndarray] = []  # of each flush
        self.lengths: list[int] = []  # of all lines, in the order in which they were stored

    def add(self, lines: Sequence[bytes | memoryview], chosen: "np.ndarray") -> None:
        """Lines, and the bucket of each."""
        for line, bucket in zip(lines, chosen.tolist(), strict=True):
            self.held[bucket].append(line)
            self.size += len(line)
        if self.size > self.room:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        import numpy as np

        index = np.zeros(self.buckets, INDEX)
        for bucket, lines in enumerate(self.held):
            if lines:
                file, text = self.files[part_of(bucket, self.buckets)], b"".join(lines)
                index[bucket] = file.tell(), len(text), len(lines), _check(text)
                file.write(text)
                self.lengths += map(len, lines)
                lines.clear()
        self.index.append(index)
        self.size = 0

    def close(self, facts: dict[str, object]) -> None:
        """Give the files their final names; `facts` come last and mean that the shard is done."""
        import numpy as np

        self.flush()
        checks = {}
        for suffix, array in (("index", self.index), ("lengths", np.array(self.lengths, "<u4"))):
            path = self.folder / f"{self.name}.{suffix}.npy"
            with files.writing(path) as aside, aside.open("wb") as handle:
                np.save(handle, np.array(array))
            checks[suffix] = _check_of_file(path)
        files.write_json(self.folder / f"{self.name}.check", checks)
        for part, (file, aside) in enumerate(zip(self.files, self.asides, strict=True)):
            file.close()
            aside.replace(lines_of(self.folder, self.name, part))
        files.write_text(self.folder / f"{self.name}.json", json.dumps(facts))

    def abandon(self) -> None:
        """Leave nothing behind."""
        for file, aside in zip(self.files, self.asides, strict=True):
            with contextlib.suppress(OSError):  # a full disk is what it is abandoned for
                file.close()
            aside.unlink(missing_ok=True)


class Reader:
    """All shards' segments, in the order of the shards' names as given.

    `Torn` names a shard whose index or lengths are damaged.
    """

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        import numpy as np

        self.folder = folder
        self.shards = [(name, _array(folder, name, "index")) for name in names]
        self.sizes, self.rows = (
            sum(index[key].astype(np.int64).sum(axis=0) for _, index in self.shards)
            for key in ("size", "rows")
        )  # bytes and lines of each bucket
        self.starts: list[int] = [0, *np.cumsum(self.sizes).tolist()]  # of each bucket in the output
        self.parts = set(range(parts(len(self.sizes))))  # not freed yet
        self.lengths = {}  # of each shard's lines as stored, and where those of each entry begin
        for name, index in self.shards:
            stored = _array(folder, name, "lengths")
            ends = np.cumsum(index["rows"], dtype=np.int64).reshape(index.shape)
            self.lengths[name] = stored, ends - index["rows"]

    def segments(self, bucket: int) -> Iterator[Segment]:
        """A bucket's segments in row order, shard by shard; `Torn` names a shard whose scratch is damaged."""
        import numpy as np

        part = part_of(bucket, len(self.sizes))
        for name, index in self.shards:
            stored, firsts = self.lengths[name]
            flushes = np.flatnonzero(index["rows"][:, bucket])
            if not len(flushes):
                continue
            try:
                file = lines_of(self.folder, name, part).open("rb", buffering=0)
            except FileNotFoundError:
                raise Torn(name) from None
            with file:
                for flush in flushes:
                    first, entry = int(firsts[flush, bucket]), index[flush, bucket]
                    text = os.pread(file.fileno(), int(entry["size"]), int(entry["offset"]))
                    if len(text) != entry["size"] or _check(text) != entry["check"]:
                        raise Torn(name)
                    yield Segment(text, stored[first : first + int(entry["rows"])])

    def unneeded(self, done: set[int]) -> set[int]:
        """The parts not freed yet of which every bucket is in `done`."""
        buckets = len(self.sizes)
        return self.parts - {part_of(bucket, buckets) for bucket in range(buckets) if bucket not in done}

    def free(self, parts: set[int]) -> None:
        """Remove the lines of these parts."""
        for part in parts:
            for name, _ in self.shards:
                lines_of(self.folder, name, part).unlink(missing_ok=True)
        self.parts -= parts


def parts(buckets: int) -> int:
    """Files of a shard's lines."""
    return min(PARTS, buckets)


def part_of(bucket: int, buckets: int) -> int:
    """Which of a shard's files holds a bucket."""
    return bucket * parts(buckets) // buckets


def lines_of(folder: Path, name: str, part: int) -> Path:
    """One of the files that hold a shard's lines."""
    return folder / f"{name}.{part}.lines"


def _array(folder: Path, name: str, suffix: str) -> "np.ndarray":
    """A shard's index or lengths, as they were written; an earlier state of this toolkit kept no check."""
    import numpy as np

    path, checks = folder / f"{name}.{suffix}.npy", folder / f"{name}.check"
    with contextlib.suppress(OSError, OmrError, KeyError, ValueError, EOFError):
        if not checks.exists() or files.read_json(checks)[suffix] == _check_of_file(path):
            return np.load(path, mmap_mode="r")
    raise Torn(name)


def _check_of_file(path: Path) -> int:
    return zlib.crc32(path.read_bytes())


def _check(text: bytes) -> int:
    """A checksum as fast as memory: the sum of the words of eight bytes, and of the bytes left over."""
    import numpy as np

    whole = len(text) // 8 * 8
    words = int(np.frombuffer(text, "<u8", whole // 8).sum(dtype=np.uint64))
    return (words + sum(text[whole:])) % 2**64


def done(folder: Path, name: str) -> dict | None:
    """The facts of a finished shard."""
    path = folder / f"{name}.json"
    return files.read_json(path) if path.exists() else None


def undo(folder: Path, name: str) -> None:
    """Forget a shard: its facts first."""
    for suffix in ("json", "check", "index.npy", "lengths.npy"):
        (folder / f"{name}.{suffix}").unlink(missing_ok=True)
    for lines in folder.glob(f"{name}.*.lines"):
        lines.unlink()
