"""What a model folder's safetensors files hold, read from their headers alone."""

import json
import struct
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from pathlib import Path

from omr.errors import OmrError
from omr.files import read_json

INDEX = "model.safetensors.index.json"
# Bytes of one number of each type that the safetensors format knows.
SIZES = {
    **{"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1},
    **{"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1},
}
# What belongs to a model beside its weights; a checkpoint holds its trainer's files, too.
SIDE = (
    *("config.json", "generation_config.json", "chat_template.jinja", "LICENSE*"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt"),
)
# The format's own limit of a header, in bytes; some 100 are used for a tensor.
MAX_HEADER = 100_000_000
# Files that may run code when they are read, or that a loader may read instead of the safetensors files.
FOREIGN = (".py", ".pkl", ".pickle", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")


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
        return OmrError(f"{path}: {why}; it is damaged or half-written, make or fetch it again")

    with path.open("rb") as handle:
        size = path.stat().st_size
        length = handle.read(8)
        if len(length) < 8 or (count := struct.unpack("<Q", length)[0]) > min(MAX_HEADER, size - 8):
            raise bad(f"is no whole safetensors file ({size:,} bytes)")
        head = length + handle.read(count)
    try:
        header = json.loads(head[8:])
        tensors = [
            _tensor(path, name, entry, len(head)) for name, entry in header.items() if name != "__metadata__"
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise bad("has a header that does not parse") from None
    tensors.sort(key=lambda tensor: (tensor.start, tensor.end))
    at = len(head)
    for tensor in tensors:
        if tensor.start != at:
            raise bad(f"has a gap or an overlap before {tensor.name}")
        at = tensor.end
    if at != size:
        raise bad(f"has {size:,} bytes where its header says {at:,}")
    return Shard(path, head, tuple(tensors))


def _tensor(path: Path, name: str, entry: dict, head: int) -> Tensor:
    start, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if prod(shape) * SIZES[entry["dtype"]] != end - start or start < 0:
        raise ValueError(name)
    return Tensor(path, name, entry["dtype"], shape, head + start, head + end)


def shards(folder: Path, safe_only: bool = True) -> list[Shard]:
    """Every shard of a model folder, in name order, checked against each other and the index.

    An OmrError names a missing shard, one too many, a tensor in the wrong shard or in two. With `safe_only`
    it also refuses files that are not safe to read; a trainer's own folder has such (optimizer.pt).
    """
    foreign = sorted(p.name for p in folder.iterdir() if p.suffix in FOREIGN) if safe_only else []
    if foreign:
        raise OmrError(
            f"{folder / foreign[0]}: may run code when it is read; use a model of safetensors files alone"
        )
    files = {path.name: path for path in sorted(folder.glob("*.safetensors"))}
    index = folder / INDEX
    listed: dict[str, str] = read_json(index).get("weight_map", {}) if index.exists() else {}
    for name in sorted(set(listed.values()) - set(files)):
        raise OmrError(f"{folder / name}: is missing, {INDEX} lists it; make or fetch {folder.name} again")
    if not files:
        raise OmrError(f"{folder}: has no *.safetensors file; make or fetch it again")
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
        raise OmrError(
            f"{index}: {name} is to be in {wanted}, it is in {there}; make or fetch {folder.name} again"
        )
    if not index.exists() and len(files) > 1:
        # Shards number themselves: …-00001-of-00004; without an index nothing else says how many there are.
        total = next(iter(files)).rpartition("-of-")[2].removesuffix(".safetensors")
        if total.isdecimal() and int(total) != len(files):
            raise OmrError(f"{folder}: has {len(files)} of {int(total)} shards; make or fetch it again")
    return found


def index_of(parts: list[Shard]) -> dict[str, dict[str, int | str]]:
    """The content of INDEX for these shards."""
    return {
        "metadata": {"total_size": sum(t.end - t.start for part in parts for t in part.tensors)},
        "weight_map": {
            t.name: part.path.name for part in parts for t in sorted(part.tensors, key=lambda t: t.name)
        },
    }


def model_files(folder: Path, parts: list[Shard]) -> list[Path]:
    """Every file of a model: those beside its weights, the index if there is one, and its shards."""
    index = [folder / INDEX] if (folder / INDEX).exists() else []
    return [*side_files(folder), *index, *(part.path for part in parts)]


def side_files(folder: Path) -> list[Path]:
    """What belongs to a model beside its weights: configuration, tokenizer, template, licence."""
    return sorted(p for p in folder.iterdir() if p.is_file() and any(fnmatchcase(p.name, n) for n in SIDE))
