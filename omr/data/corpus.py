"""The corpus as published: which parquet shards there are, that none is missing, and what they are."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path

from omr import files
from omr.errors import OmrError, RequestError, listing
from omr.files import Json

NUMBERED = re.compile(r"-(\d{5})-of-(\d{5})\.parquet$")


@dataclass(frozen=True)
class Shard:
    """A parquet file of a split. `name` is all that the mix knows of its place, so copies mix alike."""

    split: str
    path: Path
    size: int  # bytes
    mtime_ns: int

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.path.name

    @property
    def facts(self) -> Json:
        """What tells an unchanged file from a changed one without reading it."""
        return {"size": self.size, "mtime_ns": self.mtime_ns}

    def check(self) -> None:
        """An OmrError if the file is no longer the one that was found."""
        try:
            now = self.path.stat()
        except OSError as error:
            raise OmrError(f"{self.path}: {error.strerror}; put it back and run again to go on") from None
        if (now.st_size, now.st_mtime_ns) != (self.size, self.mtime_ns):
            raise OmrError(f"{self.path}: was changed while it was read; run again")


@dataclass(frozen=True)
class PlannedShard(Shard):
    """A shard, what its footer says of it, and how much of it is wanted."""

    rows: int
    bytes: int  # of its columns, uncompressed
    take: int  # its first rows that a LIMIT leaves

    def as_json(self) -> dict[str, str | int]:
        """Plain values."""
        return {"name": self.name, **asdict(self), "path": str(self.path)}

    @staticmethod
    def of(value: Json) -> "PlannedShard":
        """From `as_json`."""
        known = {key: value[key] for key in value if key != "name"}
        return PlannedShard(**{**known, "path": Path(value["path"])})


def patterns(split: str) -> tuple[str, ...]:
    """The split's files in the published repository."""
    return (f"data/{split}-*.parquet",)


def shards(folder: Path, splits: tuple[str, ...], partial: bool = False) -> list[Shard]:
    """The splits' shards below `folder`, in the published order.

    A split without a shard, a gap in the numbers (with `partial`, missing last ones are no gap), two
    files of one name: a RequestError that says which.
    """
    if not folder.is_dir():
        raise RequestError(
            f"RAW={folder}: no such folder; name the one that holds the corpus's parquet files"
        )
    found = []
    for split in splits:
        names: dict[str, Path] = {}
        for path in sorted(folder.rglob(f"{split}-*.parquet")):
            if any(part.startswith(".") for part in path.relative_to(folder).parts):
                continue
            if path.name in names:
                raise RequestError(f"{path}: is there twice (see {names[path.name]}); keep one")
            names[path.name] = path
        if not names:
            raise RequestError(
                f"{folder}: has no {split}-*.parquet; check RAW, or leave the split out of MODES"
            )
        _complete(folder, split, sorted(names), partial)
        for name in sorted(names):
            stat = names[name].stat()
            found.append(Shard(split, names[name], stat.st_size, stat.st_mtime_ns))
    return found


def _complete(folder: Path, split: str, names: list[str], partial: bool) -> None:
    numbers = [match.groups() for name in names if (match := NUMBERED.search(name))]
    if len(numbers) < len(names):
        return  # not numbered as published: taken as they are
    totals = {int(total) for _, total in numbers}
    if len(totals) > 1:
        raise RequestError(
            f"{folder}: mixes {split} shards of {listing(map(str, sorted(totals)), 'and')}; keep one set"
        )
    have = {int(number) for number, _ in numbers}
    wanted = range(max(have) + 1) if partial else range(totals.pop())
    if missing := sorted(set(wanted) - have):
        some = ", ".join(f"{n:05}" for n in missing[:5]) + (", …" if len(missing) > 5 else "")
        raise RequestError(
            f"{folder}: {split} shards {some} are missing; complete the folder, or unset RAW to download"
        )


def hashes(found: list[Shard], known: dict[str, Json]) -> dict[str, Json]:
    """name -> size, mtime_ns, sha256; a shard that `known` has unchanged is not read."""
    result = {}
    for shard in found:
        old = known.get(shard.name, {})
        same = {key: old.get(key) for key in shard.facts} == shard.facts
        result[shard.name] = {**shard.facts, "sha256": old["sha256"] if same else files.sha256(shard.path)}
    return result


def planned(found: list[Shard], limit: int | None, skip: bool) -> list[PlannedShard]:
    """Each shard with its footer; a LIMIT on the rows of each split leaves out those beyond it.

    A file that is no parquet is an OmrError, or with `skip` has no rows (its task lists it).
    """
    result, left = [], {shard.split: limit for shard in found}
    for shard in found:
        rows, size = _footer(shard.path, skip)
        take = rows if limit is None else min(rows, left[shard.split])
        if limit is not None:
            left[shard.split] -= take
        if take or limit is None:
            result.append(PlannedShard(**vars(shard), rows=rows, bytes=size, take=take))
    return result


def row_counts(paths: list[Path]) -> list[int]:
    """Rows of each file."""
    return [_footer(path, skip=False)[0] for path in paths]


def _footer(path: Path, skip: bool) -> tuple[int, int]:
    """Rows, and bytes of the uncompressed columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        meta = pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        if skip:
            return 0, 0
        raise OmrError(
            f"{path}: cannot be read as parquet ({first_line(error)}); bring it again,"
            " or leave it out with BAD_ROWS=skip"
        ) from None
    return meta.num_rows, sum(meta.row_group(n).total_byte_size for n in range(meta.num_row_groups))


def first_line(error: Exception) -> str:
    """The beginning of a library's error text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:100]
