"""The corpus as published: which parquet shards there are, that none is missing, what their footers say."""

import os
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from omr import files
from omr.data import rows
from omr.errors import OmrError, RequestError, listing
from omr.files import Json
from omr.manifest import fingerprint
from omr.recipe import Columns

ANEW = "put the published one there, or unset RAW: make data brings its own"


@dataclass(frozen=True)
class Shard:
    """A parquet file of a split. `name` is all that the mix knows of its place, so copies mix alike."""

    split: str
    path: Path
    size: int  # bytes
    mtime_ns: int

    @staticmethod
    def at(split: str, path: Path) -> "Shard":
        """The file as it is now; a RequestError for what is no file."""
        if not path.is_file():
            raise RequestError(f"{path}: is a folder, or a link to nothing; put the shard itself there")
        stat = path.stat()
        return Shard(split, path, stat.st_size, stat.st_mtime_ns)

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

    rows: int  # where the footer cannot be read: those that it should have
    bytes: int  # of its columns, uncompressed
    take: int  # its first rows that a LIMIT leaves
    fault: str = ""  # why none of them can be used
    left_out: tuple[str, ...] = ()  # columns that are no part of a row

    def as_json(self) -> dict[str, str | int]:
        """Plain values."""
        return {"name": self.name, **asdict(self), "path": str(self.path)}

    @staticmethod
    def of(value: Json) -> "PlannedShard":
        """From `as_json`."""
        known = {key: value[key] for key in value if key != "name"}
        return PlannedShard(**known | {"path": Path(value["path"]), "left_out": tuple(value["left_out"])})


def patterns(split: str) -> tuple[str, ...]:
    """The split's files in the published repository."""
    return (f"data/{split}-*.parquet",)


def below(folder: Path) -> Iterator[Path]:
    """All that is below a folder but what is hidden; links to folders are followed, each folder once."""
    seen = {os.path.realpath(folder)}
    for parent, folders, names in os.walk(folder, followlinks=True):
        there = [Path(parent, name) for name in sorted([*folders, *names]) if not name.startswith(".")]
        yield from there
        new = {os.path.realpath(path): path.name for path in there if path.name in folders}
        folders[:] = [name for real, name in new.items() if real not in seen]
        seen.update(new)


def listed(folder: Path, split: str) -> dict[str, Path]:
    """The split's files below `folder` by name, hidden ones left out; a RequestError for two of one name."""
    names: dict[str, Path] = {}
    for path in sorted(path for path in below(folder) if fnmatchcase(path.name, f"{split}-*.parquet")):
        if path.name in names:
            raise RequestError(f"{path}: is there twice (see {names[path.name]}); keep one")
        names[path.name] = path
    return dict(sorted(names.items()))


def shards(folder: Path, splits: tuple[str, ...], partial: bool = False, remedy: str = ANEW) -> list[Shard]:
    """The splits' shards below `folder`, in the published order.

    A split without a shard, a gap in the numbers (with `partial`, missing last ones are no gap), a name
    without a number among numbered ones, two files of one name: a RequestError that says which.
    """
    if not folder.is_dir():
        raise RequestError(
            f"RAW={folder}: no such folder; name the one that holds the corpus's parquet files"
        )
    found = []
    for split in splits:
        names = listed(folder, split)
        if not names:
            raise RequestError(f"{folder}: has no {split}-*.parquet; leave {split} out of MODES, or {remedy}")
        found += [Shard.at(split, path) for path in names.values()]
        _complete(folder, split, names, partial, remedy)
    return found


def _complete(folder: Path, split: str, names: dict[str, Path], partial: bool, remedy: str) -> None:
    numbered = re.compile(rf"{split}-([0-9]{{5}})-of-([0-9]{{5}})\.parquet")
    numbers = {name: tuple(map(int, match.groups())) for name in names if (match := numbered.fullmatch(name))}
    if not numbers:
        return  # not named as published: taken as they are
    if odd := [path for name, path in names.items() if name not in numbers]:
        raise RequestError(
            f"{odd[0]}: has no number as the {split} shards beside it; number it or move it away"
        )
    totals = {total for _, total in numbers.values()}
    if len(totals) > 1:
        raise RequestError(
            f"{folder}: mixes {split} shards of {listing(map(str, sorted(totals)), 'and')}; keep one set"
        )
    total, have = totals.pop(), {number for number, _ in numbers.values()}
    if over := [names[name] for name, (number, _) in numbers.items() if number >= total]:
        raise RequestError(f"{over[0]}: the last of {total} shards is {total - 1:05}; move it away")
    if missing := sorted(set(range(max(have) + 1 if partial else total)) - have):
        some = ", ".join(f"{n:05}" for n in missing[:5]) + (", …" if len(missing) > 5 else "")
        raise RequestError(f"{folder}: {split} shards {some} are missing; {remedy}")


def hashes(found: list[Shard], known: dict[str, Json]) -> dict[str, Json]:
    """name -> size, mtime_ns, sha256; a shard that `known` has unchanged is not read."""
    result = {}
    for shard in found:
        old = known.get(shard.name, {})
        same = {key: old.get(key) for key in shard.facts} == shard.facts
        result[shard.name] = {**shard.facts, "sha256": old["sha256"] if same else files.sha256(shard.path)}
    return result


def planned(
    found: list[Shard],
    columns: Columns,
    limit: int | None,
    skip: bool = False,
    published: dict[str, int] | None = None,
    remedy: str = ANEW,
) -> list[PlannedShard]:
    """Each shard with its footer; a LIMIT on the rows of each split leaves out those beyond it.

    A file of no use is an OmrError. With `skip` it has a fault, and the rows that it should have: its
    footer's, else those that are missing from the `published` count, else the largest other shard's.
    """
    footers = {shard: footer(shard.path, columns) for shard in found}
    for shard, foot in footers.items():
        if foot.fault and not skip:
            raise OmrError(f"{shard.path}: {foot.fault}; {remedy}")
    _refuse_twins(shard for shard, foot in footers.items() if foot.rows and not foot.fault)
    result, left = [], {shard.split: limit for shard in found}
    for shard, foot in footers.items():
        count = foot.rows
        if count is None:
            count = _should_have(shard, footers, (published or {}).get(shard.split))
        if count is None:
            unknown = "how many rows are lost is not known, so BAD_ROWS=skip cannot leave it out"
            raise OmrError(f"{shard.path}: {foot.fault}; {unknown}: {remedy}")
        take = count if limit is None else min(count, left[shard.split])
        if limit is not None:
            left[shard.split] -= take
        if take or limit is None:
            result.append(PlannedShard(**vars(shard), **vars(foot) | {"rows": count}, take=take))
    return result


def _should_have(shard: Shard, footers: "dict[Shard, Footer]", published: int | None) -> int | None:
    """Rows of a shard whose footer cannot be read; None where nothing tells."""
    same = {other: foot.rows for other, foot in footers.items() if other.split == shard.split}
    known = [count for count in same.values() if count is not None]
    unknown = [other for other, count in same.items() if count is None]
    missing = (published or 0) - sum(known)
    if missing > 0:
        each, more = divmod(missing, len(unknown))
        return each + (unknown.index(shard) < more)
    return max(known, default=None)


def _refuse_twins(found: Iterable[Shard]) -> None:
    """A RequestError for one content under two names; only files of one size are read for it."""
    seen: dict[tuple[int, str], Shard] = {}
    sizes: dict[int, list[Shard]] = {}
    for shard in found:
        sizes.setdefault(shard.size, []).append(shard)
    for shard in (shard for same in sizes.values() if len(same) > 1 for shard in same):
        first = seen.setdefault((shard.size, fingerprint(shard.path).blocks), shard)
        if first is not shard and files.sha256(first.path) == files.sha256(shard.path):
            raise RequestError(f"{shard.path}: has the very content of {first.path}; keep the right one")


@dataclass(frozen=True)
class Footer:
    """What the end of a parquet file says of it."""

    rows: int | None  # None: it cannot be read
    bytes: int  # of all columns, uncompressed
    fault: str = ""  # why the file is of no use
    left_out: tuple[str, ...] = ()  # columns that are no part of a row


def footer(path: Path, columns: Columns) -> Footer:
    """The footer of a file; what is wrong with the file is its `fault`, with the disk an OmrError."""
    import pyarrow.parquet as pq

    try:
        meta = pq.read_metadata(path)
        schema = meta.schema.to_arrow_schema()
        fault, left_out = rows.schema_fault(schema, columns), rows.index_columns(schema)
        groups = [meta.row_group(number) for number in range(meta.num_row_groups)]
        counts, size = [g.num_rows for g in groups], sum(g.total_byte_size for g in groups)
    except rows.reading_errors() as error:
        return Footer(None, 0, unreadable(path, error))
    if min(counts, default=0) < 0 or sum(counts) != meta.num_rows:
        return Footer(None, 0, "cannot be read as parquet (its footer counts rows in two ways)")
    return Footer(meta.num_rows, size, fault or "", left_out)


def row_counts(paths: list[Path], columns: Columns, remedy: str) -> list[int]:
    """Rows of each file."""
    footers = {path: footer(path, columns) for path in paths}
    for path, foot in footers.items():
        if foot.fault:
            raise OmrError(f"{path}: {foot.fault}; {remedy}")
    return [foot.rows for foot in footers.values()]


def unreadable(path: Path, error: Exception) -> str:
    """Why a library cannot read a file; an OmrError where that is the disk's fault and not the file's."""
    refuse_disk_error(path, error)
    if files.is_lfs_pointer(path):
        folder = path.resolve().parent
        cloned = any((parent / ".git").exists() for parent in (folder, *folder.parents))
        pull = f" (git -C {shlex.quote(str(folder))} lfs pull brings it)" if cloned else ""
        return f"is a git-lfs pointer, not the file itself{pull}"
    if "crypt" in str(error):
        return "is encrypted"
    return f"cannot be read as parquet ({rows.first_line(error)})"


def refuse_disk_error(path: Path, error: Exception) -> None:
    """An OmrError for an error of the disk, which says nothing of the file."""
    if isinstance(error, OSError) and error.errno is not None:
        raise OmrError(f"{path}: {os.strerror(error.errno)}; make it readable, then run again") from None
