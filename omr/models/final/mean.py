"""The mean of several models of one shape: taken in fp32, rounded once, in little memory.

The inputs are read a megabyte at a time, so memory does not grow with the model. numpy does the arithmetic,
with bf16 from ml_dtypes. Files are read and not mapped: mapped pages count as memory of the process, and a
file that is cut short while it is mapped kills it.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from omr import files, records
from omr.errors import OmrError, listing
from omr.manifest import FileEntry
from omr.models import weights
from omr.models.weights import Shard, Tensor
from omr.progress import Progress

if TYPE_CHECKING:
    import numpy as np

CHUNK = 1 << 20  # bytes of each input that are averaged at a time
FLOATS = ("BF16", "F16", "F32", "F64")
PROGRESS = "progress.json"  # in the folder being made: which shards are done, from which inputs
FileEntries = dict[str, FileEntry]  # by file name


def average(
    models: dict[str, list[Shard]], aside: Path, known: dict[str, FileEntries] | None = None
) -> tuple[FileEntries, dict[str, FileEntries]]:
    """Write the mean of `models` (name -> shards) into the folder `aside`, sharded as the first.

    `known` are input files, per model, that the caller has verified; the others are hashed. Returns the files
    written and, per model, the files read. A shard that an earlier run finished from the same inputs is kept;
    progress.json stays, for a caller that fails after. An OmrError names the tensor and the model.
    """
    compare(models)
    first, *others = models.values()
    by_name = [{t.name: t for part in parts for t in part.tensors} for parts in others]
    aside.mkdir(parents=True, exist_ok=True)
    inputs = _inputs(models)
    done = _finished(aside, inputs)
    left = [part for part in first if part.path.name not in done]
    files.need_space(aside, sum(part.size for part in left), f"the average in {aside}")
    progress = Progress("averaging", sum(part.size for part in first))
    progress.start(progress.total - sum(part.size for part in left))
    with _hashing(models, known or {}) as hashed:
        for part in left:
            tensors = [[t, *(other[t.name] for other in by_name)] for t in part.tensors]
            with files.writing(aside / part.path.name) as path:
                digest = _average_shard(part, tensors, list(models), path, progress)
            done[part.path.name] = {"size": part.size, "sha256": digest}
            files.write_json(aside / PROGRESS, {"inputs": inputs, "done": done})
        read = hashed()
    progress.close()
    if len(first) > 1:
        written = [weights.shard(aside / part.path.name) for part in first]
        files.write_json(aside / weights.INDEX, weights.index_of(written))
    return done, read


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
                f"{key} is in {there} and not in {absent}; all must be of one model,"
                " make train converts both again"
            )
        for key, tensor in found.items():
            for what in ("dtype", "shape"):
                a, b = getattr(wanted[key], what), getattr(tensor, what)
                if a != b:
                    raise OmrError(
                        f"{tensor.file}: {key} has {what} {b}, in {first} it has {a};"
                        " all must be of one model, make train converts both again"
                    )


def _inputs(models: dict[str, list[Shard]]) -> dict[str, dict[str, list[str | int]]]:
    """What tells unchanged input files from changed ones: path, size and modification time of each."""
    found = {}
    for name, shards in models.items():
        stats = [(part.path, part.path.stat()) for part in shards]
        found[name] = {path.name: [str(path), stat.st_size, stat.st_mtime_ns] for path, stat in stats}
    return found


def _finished(aside: Path, inputs: dict) -> FileEntries:
    """The shards that an earlier run wrote into `aside` from the same inputs; other leftovers are removed."""
    path = aside / PROGRESS
    with contextlib.suppress(OmrError, ValueError):  # damaged: begun anew
        old = files.read_json(path) if path.exists() else {}
        done = records.of(FileEntries, old.get("done", {}))
        if old.get("inputs") == inputs and all(_whole(aside / records.inside(n), e) for n, e in done.items()):
            return done
    for leftover in aside.iterdir():
        leftover.unlink()
    return {}


def _whole(path: Path, entry: FileEntry) -> bool:
    return path.exists() and path.stat().st_size == entry["size"] and files.sha256(path) == entry["sha256"]


@contextlib.contextmanager
def _hashing(
    models: dict[str, list[Shard]], known: dict[str, FileEntries]
) -> Iterator[Callable[[], dict[str, FileEntries]]]:
    """Hash the files that are not `known` beside the averaging; yields a function that gives the result."""
    pool = ThreadPoolExecutor(len(models))

    def start(part: Shard) -> tuple[int, Future[str]]:
        return part.size, pool.submit(files.sha256, part.path)

    new = {
        name: {part.path.name: start(part) for part in shards if part.path.name not in known.get(name, {})}
        for name, shards in models.items()
    }

    def result() -> dict[str, FileEntries]:
        return {
            name: known.get(name, {})
            | {file: {"size": size, "sha256": digest.result()} for file, (size, digest) in found.items()}
            for name, found in new.items()
        }

    try:
        yield result
    finally:
        pool.shutdown(cancel_futures=True)


def _average_shard(
    part: Shard, tensors: list[list[Tensor]], names: list[str], path: Path, progress: Progress
) -> str:
    """Write the mean of one shard of the first model to `path`; returns the sha256 of what was written.

    `tensors` are the shard's, in its order, each as it stands in each of the models `names`.
    """
    import numpy as np

    digest = hashlib.sha256(part.head)
    with path.open("wb") as out, _reading(tensors) as read:
        out.write(part.head)
        for sources in tensors:
            size = sources[0].end - sources[0].start
            for at in range(0, size, CHUNK):
                arrays = [read(tensor, at, min(CHUNK, size - at)) for tensor in sources]
                mean = _mean(arrays)
                # What is finite here stays so when it is rounded: no mean is beyond all of its inputs.
                if not np.isfinite(mean).all():
                    _not_finite(sources, names, arrays, at)
                data = memoryview(mean.astype(arrays[0].dtype).view(np.uint8))
                digest.update(data)
                out.write(data)
                progress.add(len(data))
    return digest.hexdigest()


@contextlib.contextmanager
def _reading(tensors: list[list[Tensor]]) -> Iterator[Callable[[Tensor, int, int], "np.ndarray"]]:
    """Yields a function: (tensor, first byte, bytes) -> those numbers of the tensor, from its file."""
    import ml_dtypes
    import numpy as np

    types = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32, "F64": np.float64}
    with contextlib.ExitStack() as stack:
        paths = {tensor.file for sources in tensors for tensor in sources}
        handles = {path: stack.enter_context(path.open("rb")) for path in paths}

        def read(tensor: Tensor, at: int, size: int) -> np.ndarray:
            handle = handles[tensor.file]
            handle.seek(tensor.start + at)
            data = handle.read(size)
            if len(data) < size:
                end = tensor.start + at + len(data)
                raise OmrError(
                    f"{tensor.file}: ends at byte {end:,}; it was cut short meanwhile,"
                    " make train converts it again"
                )
            return np.frombuffer(data, types[tensor.dtype])

        yield read


def _mean(arrays: list["np.ndarray"]) -> "np.ndarray":
    """The arrays' mean before it is rounded: summed in the order given, in fp32 (arrays of fp64 in fp64)."""
    import numpy as np

    with np.errstate(all="ignore"):
        total = arrays[0].astype(np.promote_types(arrays[0].dtype, np.float32))
        for array in arrays[1:]:
            total += array
        total /= total.dtype.type(len(arrays))
    return total


def _not_finite(sources: list[Tensor], names: list[str], arrays: list["np.ndarray"], at: int) -> NoReturn:
    """Raise the OmrError for a mean that is not finite: which number of which model made it so.

    `arrays` are the numbers of the tensors `sources` from byte `at` on.
    """
    import numpy as np

    first = at // arrays[0].itemsize
    for tensor, name, array in zip(sources, names, arrays, strict=True):
        bad = np.flatnonzero(~np.isfinite(array))
        if len(bad):
            value, place = float(array[bad[0]]), first + bad[0]
            raise OmrError(
                f"{tensor.file}: {tensor.name} is {value} at {place:,}, so {name} cannot be averaged;"
                " look at the loss around that step"
            )
    place = first + np.flatnonzero(~np.isfinite(_mean(arrays)))[0]
    raise OmrError(f"{sources[0].name}: the sum at {place:,} is beyond {sources[0].dtype}'s range")
