"""Checkpoint arithmetic: the mean of several models of one shape, exact, in one pass and little memory.

Each input is read once, in order, a few megabytes at a time; it is hashed from the same bytes. The mean
is accumulated in fp32 and rounded once, to nearest, ties to even. Only numpy is needed.
"""

import hashlib
import math
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from omr import files
from omr.errors import OmrError, listing
from omr.models import arrays, weights
from omr.models.weights import Shard, Tensor
from omr.progress import Progress

CHUNK = 1 << 20  # bytes of each input in memory at a time (twice: one is read while one is averaged)
SYNC = 64 << 20  # bytes written between two syncs
FLOATS = ("BF16", "F16", "F32", "F64")
PROGRESS = "progress.json"  # in the folder being made: which shards are done, from which inputs


@dataclass(frozen=True)
class Piece:
    """Bytes of one type that lie together in the output and in every input."""

    dtype: str
    out: int  # offset in the output file
    size: int  # bytes
    sources: tuple[tuple[Path, int], ...]  # file and offset, one per input


def compare(models: dict[str, list[Shard]]) -> None:
    """An OmrError unless all models hold the same floating-point tensors: names, types, shapes."""
    (first, parts), *others = models.items()
    wanted = {t.name: t for part in parts for t in part.tensors}
    for tensor in wanted.values():
        if tensor.dtype not in FLOATS:
            raise OmrError(
                f"{tensor.file}: {tensor.name} is {tensor.dtype}, a mean needs {listing(FLOATS)};"
                " convert the checkpoint without quantisation"
            )
    for name, shards in others:
        found = {t.name: t for part in shards for t in part.tensors}
        for key in sorted(set(wanted) ^ set(found)):
            there, absent = (first, name) if key in wanted else (name, first)
            raise OmrError(
                f"{key} is in {there} and not in {absent}; all must be of one model, convert both again"
            )
        for key, tensor in found.items():
            for what in ("dtype", "shape"):
                a, b = getattr(wanted[key], what), getattr(tensor, what)
                if a != b:
                    raise OmrError(
                        f"{tensor.file}: {key} has {what} {b}, in {first} it has {a};"
                        " all must be of one model, convert both again"
                    )


def pieces(shard: Shard, others: list[dict[str, Tensor]]) -> Iterator[Piece]:
    """The shard as long runs: neighbours of one type are one piece where they are neighbours everywhere."""
    run: Piece | None = None
    for tensor in shard.tensors:
        same = [tensor, *(other[tensor.name] for other in others)]
        sources = tuple((t.file, t.start) for t in same)
        size = tensor.end - tensor.start
        if (
            run
            and run.dtype == tensor.dtype
            and sources == tuple((f, at + run.size) for f, at in run.sources)
        ):
            run = replace(run, size=run.size + size)
        else:
            if run:
                yield run
            run = Piece(tensor.dtype, tensor.start, size, sources)
    if run:
        yield run


class Reader:
    """One input: its files are read where asked, and hashed as long as that goes on in order.

    Files whose hash is `known` are only read.
    """

    def __init__(self, shards: list[Shard], known: dict[str, dict]) -> None:
        self.heads = {part.path: part.head for part in shards if part.path.name not in known}
        self.open: dict[Path, int] = {}
        self.hashes: dict[Path, tuple[int, hashlib._Hash]] = {}

    def read(self, path: Path, at: int, buffer: memoryview) -> None:
        """Fill `buffer` from `path` at byte `at`; an OmrError if the file ends before."""
        if path not in self.open:
            self.open[path] = os.open(path, os.O_RDONLY)
        done = 0
        while done < len(buffer):
            got = os.preadv(self.open[path], [buffer[done:]], at + done)
            if got == 0:
                raise OmrError(
                    f"{path}: ends at byte {at + done:,}; it was cut short meanwhile, convert it again"
                )
            done += got
        self._hash(path, at, buffer)

    def _hash(self, path: Path, at: int, buffer: memoryview) -> None:
        head = self.heads.get(path)
        if head is None:
            return
        expected, digest = self.hashes.get(path) or (len(head), hashlib.sha256(head))
        if at == expected:
            digest.update(buffer)
            self.hashes[path] = (at + len(buffer), digest)

    def digest(self, path: Path) -> str:
        """The sha256 of a file that was read; what was not read in order is read again."""
        at, digest = self.hashes.pop(path, (0, None))
        if path in self.open:
            os.close(self.open.pop(path))
        return digest.hexdigest() if digest and at == path.stat().st_size else files.sha256(path)

    def close(self) -> None:
        """Close what a failure left open."""
        for handle in self.open.values():
            os.close(handle)


def average(
    models: dict[str, list[Shard]], aside: Path, known: dict[str, dict] | None = None
) -> tuple[dict[str, dict], dict[str, dict]]:
    """Write the mean of `models` (name -> shards) into the folder `aside`, sharded as the first.

    `known` are files, per model, that the caller has proved: name -> size, sha256; they are not hashed.
    Returns the files written and, per model, the files read: name -> size, sha256. A shard that an
    earlier run finished from the same inputs is kept; progress.json stays, for a caller that fails after.
    An OmrError names the tensor and the model.
    """
    compare(models)
    first, *others = models.values()
    by_name = [{t.name: t for part in parts for t in part.tensors} for parts in others]
    aside.mkdir(parents=True, exist_ok=True)
    state = _state(models, aside)
    done, read = state["done"], state["read"]
    for name, entries in (known or {}).items():
        read[name] |= entries
    left = [part for part in first if part.path.name not in done]
    files.need_space(aside, sum(part.size for part in left), f"the average in {aside}")
    progress = Progress("averaging", sum(part.size for part in first))
    progress.start(sum(part.size for part in first) - sum(part.size for part in left))
    readers = [Reader(shards, read[name]) for name, shards in models.items()]
    try:
        for part in left:
            with files.writing(aside / part.path.name) as path:
                digest = _shard(part, by_name, list(models), readers, path, progress)
            done[part.path.name] = {"size": part.size, "sha256": digest}
            # Where the others are sharded alike, their shards are read through now.
            for (name, shards), reader in zip(models.items(), readers, strict=True):
                for other in shards:
                    at, _ = reader.hashes.get(other.path, (0, None))
                    if at == other.size:
                        read[name][other.path.name] = {"size": at, "sha256": reader.digest(other.path)}
            files.write_json(aside / PROGRESS, state)
        for (name, shards), reader in zip(models.items(), readers, strict=True):
            for other in shards:
                if other.path.name not in read[name]:
                    read[name][other.path.name] = {"size": other.size, "sha256": reader.digest(other.path)}
    finally:
        for reader in readers:
            reader.close()
    progress.close()
    if len(first) > 1:
        files.write_json(
            aside / weights.INDEX, weights.index_of([weights.shard(aside / p.path.name) for p in first])
        )
    return done, read


def _state(models: dict[str, list[Shard]], aside: Path) -> dict:
    """What an earlier run left in `aside`, if it was from the same inputs and is still whole."""
    inputs = {}
    for name, shards in models.items():
        stats = [(part.path, part.path.stat()) for part in shards]
        inputs[name] = {path.name: [str(path), stat.st_size, stat.st_mtime_ns] for path, stat in stats}
    path = aside / PROGRESS
    fresh = {"inputs": inputs, "done": {}, "read": {name: {} for name in models}}
    old = files.read_json(path) if path.exists() else fresh
    if old["inputs"] == inputs and all(_whole(aside / name, entry) for name, entry in old["done"].items()):
        return old
    for leftover in aside.iterdir():
        leftover.unlink()
    return fresh


def _whole(path: Path, entry: dict) -> bool:
    return path.exists() and path.stat().st_size == entry["size"] and files.sha256(path) == entry["sha256"]


def _shard(
    part: Shard,
    others: list[dict[str, Tensor]],
    names: list[str],
    readers: list[Reader],
    path: Path,
    progress: Progress,
) -> str:
    """Average one shard into `path`; returns the sha256 of what was written.

    Three things at once: the inputs are read and hashed, a thread each; the mean of the chunk before is
    taken here; the one before that is hashed and written.
    """
    import numpy as np

    mean = arrays.Mean(len(readers))
    buffers = [[np.empty(CHUNK, np.uint8) for _ in readers] for _ in range(2)]
    results = [np.empty(CHUNK, np.uint8) for _ in range(2)]
    digest = hashlib.sha256()
    chunks = [
        (piece, at, min(CHUNK, piece.size - at))
        for piece in pieces(part, others)
        for at in range(0, piece.size, CHUNK)
    ]
    with (
        path.open("wb", buffering=0) as out,
        ThreadPoolExecutor(len(readers)) as pool,
        ThreadPoolExecutor(1) as writer,
        ThreadPoolExecutor(1) as syncer,
    ):

        def fetch(n: int) -> list:
            piece, at, size = chunks[n]
            work = zip(readers, piece.sources, buffers[n % 2], strict=True)
            return [
                pool.submit(r.read, file, start + at, memoryview(b)[:size]) for r, (file, start), b in work
            ]

        def put(data: memoryview) -> None:
            digest.update(data)
            while data:
                data = data[out.write(data) :]  # a disk that fills up takes a part
            # The disk works beside the rest, from the start and not at the end alone.
            if out.tell() // SYNC > len(syncing) and all(future.done() for future in syncing):
                syncing.append(syncer.submit(os.fdatasync, out.fileno()))

        syncing: list[Future] = []
        put(memoryview(part.head))
        reading, writing = fetch(0) if chunks else [], [None, None]
        for n, (piece, at, size) in enumerate(chunks):
            for future in reading:
                future.result()
            reading = fetch(n + 1) if n + 1 < len(chunks) else []
            if writing[n % 2]:
                writing[n % 2].result()
            padded = -(-size // 4) * 4
            for buffer in buffers[n % 2]:
                buffer[size:padded] = 0
            result = results[n % 2]
            with np.errstate(all="ignore"):
                bad = mean(piece.dtype, [b[:padded] for b in buffers[n % 2]], result[:padded])
            if bad is not None:
                _not_finite(part, others, names, piece.out + at + bad)
            writing[n % 2] = writer.submit(put, memoryview(result)[:size])
            progress.add(size)
        for future in [*writing, *syncing]:
            if future:
                future.result()
    return digest.hexdigest()


def _not_finite(part: Shard, others: list[dict[str, Tensor]], names: list[str], at: int) -> None:
    """Raise the OmrError for the number at byte `at` of a shard: which tensor, in which model."""
    tensor = next(t for t in part.tensors if t.start <= at < t.end)
    item = weights.SIZES[tensor.dtype]
    for name, source in zip(names, [tensor, *(other[tensor.name] for other in others)], strict=True):
        with source.file.open("rb") as handle:
            handle.seek(source.start + at - tensor.start)
            value = arrays.number(tensor.dtype, handle.read(item))
        if not math.isfinite(value):
            place = (at - tensor.start) // item
            raise OmrError(
                f"{source.file}: {tensor.name} is {value} at {place:,}, so {name} cannot be averaged;"
                " look at the loss around that step, or convert it again"
            )
    raise OmrError(
        f"{tensor.name}: the sum at {(at - tensor.start) // item:,} is beyond {tensor.dtype}'s range"
    )
