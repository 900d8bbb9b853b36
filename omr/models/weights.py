"""What a model folder's safetensors files hold, read from their headers alone."""

import json
import struct
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from pathlib import Path
from typing import Any

from omr.errors import OmrError, shown
from omr.files import refuse_lfs_pointer, twice, write_json
from omr.models import rope

INDEX = "model.safetensors.index.json"
# Bytes of one number of each type that this toolkit knows; the format has some more, for quantised weights.
SIZES = {
    **{"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1},
    **{"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1},
}
# What belongs to a model beside its weights; a checkpoint holds its trainer's files, too.
SIDE = (
    *("config.json", "generation_config.json", "chat_template.jinja", "LICENSE*"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt"),
)
# Bytes of a header: some 100 are used for a tensor, and the largest model of the recipe has 771. The format
# allows 100 MB, which takes gigabytes to parse.
MAX_HEADER = 10_000_000
# Files that may run code when they are read, or that a loader may read instead of the safetensors files.
FOREIGN = (".py", ".pkl", ".pickle", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")
_CHUNK = 1 << 20  # bytes that are compared at a time


@dataclass(frozen=True)
class Tensor:
    """Where a tensor's bytes are: [start, end) of its file."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Shard:
    """One safetensors file: the bytes before its data, and its tensors in the order of their data."""

    path: Path
    head: bytes
    tensors: tuple[Tensor, ...]

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.tensors[-1].end if self.tensors else len(self.head)


def shard(path: Path) -> Shard:
    """Read a file's header; an OmrError if the file is cut short, too long, or no safetensors file."""

    def bad(why: str) -> OmrError:
        return OmrError(f"{path}: {why}; it is damaged or half-written, {rope.AGAIN}")

    refuse_lfs_pointer(path, rope.BRING)
    with path.open("rb") as handle:
        size = path.stat().st_size
        length = handle.read(8)
        if len(length) < 8 or (count := struct.unpack("<Q", length)[0]) > size - 8:
            raise bad(f"is no whole safetensors file ({size:,} bytes)")
        if count > MAX_HEADER:
            raise bad(f"has a header of {count:,} bytes, the recipe's models have less than {MAX_HEADER:,}")
        head = length + handle.read(count)
    try:
        header = json.loads(head[8:].decode("utf-8"), object_pairs_hook=_once)
        metadata = header.pop("__metadata__", {})
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its __metadata__ is no text")
        tensors = [_tensor(path, name, entry, len(head)) for name, entry in header.items()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f" ({shown(str(error))})" if isinstance(error, ValueError) else ""
        raise bad(f"has a header that does not parse{why}") from None
    tensors.sort(key=lambda tensor: (tensor.start, tensor.end))
    at = len(head)
    for tensor in tensors:
        if tensor.start != at:
            raise bad(f"has a gap or an overlap before {tensor.name}")
        at = tensor.end
    if at != size:
        raise bad(f"has {size:,} bytes where its header says {at:,}")
    return Shard(path, head, tuple(tensors))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of the header; a ValueError if it has a key twice."""
    if (key := twice(pairs)) is not None:
        raise ValueError(f"{key} is there twice")
    return dict(pairs)


def _tensor(path: Path, name: str, entry: dict[str, Any], head: int) -> Tensor:
    """A tensor of a header of `head` bytes; a ValueError, KeyError or TypeError if its entry is none."""
    if name != shown(name):  # what follows may name it in a line
        raise ValueError(f"it names a tensor {shown(name)}")
    start, end = entry["data_offsets"]
    shape, dtype = tuple(entry["shape"]), entry["dtype"]
    if dtype not in SIZES:
        raise OmrError(
            f"{path}: {name} has the number type {shown(str(dtype))};"
            " the recipe trains plain weights, bring the published ones"
        )
    # Python would take true for 1, 2.0 for 2, and the product of two negative numbers for a size.
    if any(type(n) is not int or not 0 <= n < 1 << 63 for n in (start, end, *shape)) or len(shape) > 16:
        raise ValueError(f"{name} has no shape or offsets")
    if prod(shape) * SIZES[dtype] != end - start:
        raise ValueError(f"{name} has other offsets than its shape needs")
    return Tensor(path, name, dtype, shape, head + start, head + end)


def shards(folder: Path, safe_only: bool = True) -> list[Shard]:
    """Every shard of a model folder, in name order, checked against each other and the index.

    Hidden files are no part of it: some systems put one beside each file that they copy. An OmrError names a
    missing shard, one too many, a tensor in the wrong shard or in two. With `safe_only` it also refuses files
    that are not safe to read; a trainer's own folder has such (optimizer.pt).
    """
    visible = sorted(p for p in folder.iterdir() if not p.name.startswith(".") and not p.is_dir())
    if lost := [p for p in visible if not p.is_file() and _of_a_model(p.name)]:
        raise OmrError(
            f"{lost[0]}: is a link to nothing, or no file; put the file itself there, or {rope.BRING}"
        )
    foreign = [path for path in visible if path.suffix in FOREIGN] if safe_only else []
    if foreign:
        raise OmrError(f"{foreign[0]}: may run code when it is read; use a model of safetensors files alone")
    files = {path.name: path for path in visible if path.suffix == ".safetensors"}
    index = folder / INDEX
    listed = _listed(index) if index.exists() else {}
    for name in sorted(set(listed.values()) - set(files)):
        raise OmrError(f"{folder / name}: is missing, {INDEX} lists it; {rope.AGAIN}")
    if not files:
        raise OmrError(f"{folder}: has no *.safetensors file; {rope.AGAIN}")
    found = [shard(path) for path in files.values()]
    where: dict[str, str] = {}
    for part in found:
        for tensor in part.tensors:
            if tensor.name in where:
                raise OmrError(
                    f"{part.path}: holds {tensor.name}, which {where[tensor.name]} holds too; keep one"
                )
            where[tensor.name] = part.path.name
    if index.exists() and where != listed:
        name = sorted({k for k in {**where, **listed} if where.get(k) != listed.get(k)})[0]
        wanted, there = listed.get(name, "no shard"), where.get(name, "no shard")
        raise OmrError(f"{index}: {shown(name)} is to be in {wanted}, it is in {there}; {rope.AGAIN}")
    if not index.exists() and len(files) > 1:
        # Shards number themselves: …-00001-of-00004; without an index nothing else says how many there are.
        total = next(iter(files)).rpartition("-of-")[2].removesuffix(".safetensors")
        if total.isdecimal() and int(total) != len(files):
            raise OmrError(f"{folder}: has {len(files)} of {int(total)} shards; {rope.AGAIN}")
    return found


def _listed(index: Path) -> dict[str, str]:
    """Tensor -> shard, as an index says; an OmrError if it names something else than files beside it."""
    listed = rope.parse(index).get("weight_map")
    if not isinstance(listed, dict):
        raise OmrError(f"{index}: has no weight_map; {rope.AGAIN}")
    for name in listed.values():
        if not isinstance(name, str) or Path(name).name != name or shown(name) != name or name in ("", ".."):
            raise OmrError(
                f"{index}: lists {shown(str(name))}, which is no file of {index.parent}; {rope.AGAIN}"
            )
    return listed


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same type, shape and bytes; reads the bytes of both."""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    with a.file.open("rb") as one, b.file.open("rb") as other:
        one.seek(a.start)
        other.seek(b.start)
        sizes = (min(_CHUNK, a.end - at) for at in range(a.start, a.end, _CHUNK))
        return all(one.read(size) == other.read(size) for size in sizes)


def index_of(parts: list[Shard]) -> dict[str, dict[str, int | str]]:
    """The content of INDEX for these shards."""
    return {
        "metadata": {"total_size": sum(t.end - t.start for part in parts for t in part.tensors)},
        "weight_map": {
            t.name: part.path.name for part in parts for t in sorted(part.tensors, key=lambda t: t.name)
        },
    }


def complete_index(folder: Path, parts: list[Shard]) -> bool:
    """Write the index of shards that have none, or one without its metadata; returns whether it did.

    transformers finds weights by the name model.safetensors or by such an index; some tools write neither.
    """
    index = folder / INDEX
    if [part.path.name for part in parts] == ["model.safetensors"]:
        return False
    if index.exists() and isinstance(rope.parse(index).get("metadata"), dict):
        return False
    write_json(index, index_of(parts))
    return True


def model_files(folder: Path, parts: list[Shard]) -> list[Path]:
    """Every file of a model: those beside its weights, the index if there is one, and its shards."""
    index = [folder / INDEX] if (folder / INDEX).exists() else []
    return [*side_files(folder), *index, *(part.path for part in parts)]


def side_files(folder: Path) -> list[Path]:
    """What belongs to a model beside its weights: configuration, tokenizer, template, licence."""
    return sorted(p for p in folder.iterdir() if p.is_file() and _is_side(p.name))


def _is_side(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in SIDE)


def _of_a_model(name: str) -> bool:
    return name == INDEX or name.endswith(".safetensors") or _is_side(name)
