"""Raw rows: are they whole, and does a round keep them? Arrow columns in, masks, counts and reasons out."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from omr import files
from omr.files import Json
from omr.recipe import Columns

if TYPE_CHECKING:
    import pyarrow as pa

INDEX = re.compile(r"__index_level_[0-9]+__")  # how pandas calls an index that has no name


@dataclass
class Tally:
    """What became of a shard's rows by the round's rule."""

    read: int = 0
    kept: int = 0
    dropped: Counter = field(default_factory=Counter)  # by the round's filter: reason -> rows
    two_digits: int = 0  # execution counts that the recipe's one-digit reading cuts


@dataclass(frozen=True)
class Reject:
    """Malformed rows that BAD_ROWS=skip leaves out."""

    file: str
    row_group: int | None  # None: the file as a whole
    row: int  # the first one, in the file
    rows: int
    reason: str


@dataclass
class Result(Tally):
    """What became of a shard's rows."""

    rejected: list[Reject] = field(default_factory=list)
    lost: int = 0  # malformed rows, and all of what cannot be read, whatever the filter would have kept of it
    sha256: str = ""
    held_out: int = 0  # rows that the round keeps and VALIDATION holds out
    problems: list[int] = field(default_factory=list)  # theirs, by hash

    def facts(self) -> Json:
        """As JSON keeps it (see `of`)."""
        rejected = [asdict(entry) for entry in self.rejected]
        return {**vars(self), "dropped": dict(self.dropped), "rejected": rejected}

    @staticmethod
    def of(facts: Json) -> "Result":
        """From `facts`, as they come back from JSON."""
        rejected = [Reject(**entry) for entry in facts["rejected"]]
        return Result(**{**facts, "dropped": Counter(facts["dropped"]), "rejected": rejected})


def by_split(results: Iterable[tuple[str, Result]]) -> dict[str, Json]:
    """Rows read and kept, dropped by the filter and rejected as malformed (each by reason), per split."""
    splits: dict[str, Json] = {}
    for name, result in results:
        fresh = dict(read=0, kept=0, dropped=Counter(), rejected=Counter(), two_digits=0)
        split = splits.setdefault(name, fresh)
        for key in ("read", "kept", "two_digits"):
            split[key] += getattr(result, key)
        if result.held_out:
            split["held_out"] = split.get("held_out", 0) + result.held_out
        split["dropped"].update(result.dropped)
        for reject in result.rejected:
            split["rejected"][reject.reason] += reject.rows
    for split in splits.values():
        for key in ("dropped", "rejected"):
            split[key] = {reason: count for reason, count in sorted(split[key].items()) if count}
    return splits


def summary(path: Path, made: Json) -> str:
    """A manifest in one line: rows, bytes, what each split gave."""
    parts = [f"{split} {s['kept']:,} of {s['read']:,}" for split, s in made["splits"].items()]
    rejected = sum(sum(s["rejected"].values()) for s in made["splits"].values())
    if rejected:
        parts.append(f"{rejected:,} malformed left out")
    if dropped := sum(s["dropped"].get("DROP", 0) for s in made["splits"].values()):
        parts.append(f"{dropped:,} left out by DROP")
    if held_out := made.get("validation"):
        count = sum(facts["rows"] for facts in held_out["splits"].values())
        of_file = f" of the file's {held_out['asked']:,}" if "asked" in held_out else ""
        parts.append(f"{count:,} rows of {held_out['problems']:,}{of_file} problems held out")
    parts += [f"column {name} left out" for name in made.get("columns_left_out", ())]
    if other := made.get("unlike_published"):
        parts += [f"published {split} {counts['published']:,}" for split, counts in other.items()]
    size, digest = files.human(made["size"]), made["sha256"][:12]
    return f"{path}: {made['rows']:,} rows, {size} ({', '.join(parts)}), sha256 {digest}…"


@dataclass(frozen=True)
class Bad:
    """A malformed row: its number in the batch, and why."""

    row: int
    reason: str


def schema_fault(schema: "pa.Schema", columns: Columns) -> str | None:
    """Why a file is not of the recipe's schema, or None.

    Text is text however Arrow stores it. A column of type null has nulls, so it cannot be a required one.
    """
    import pyarrow as pa

    names = [name for name in schema.names if not INDEX.fullmatch(name)]
    if not names:
        return "has no columns"
    for name in columns.names:
        if (count := names.count(name)) != 1:
            return f"column {name} is there {count} times" if count else f"column {name} is missing"
        kind = _stored(schema.field(name).type)
        if pa.types.is_null(kind):
            if name in (columns.problem, columns.solution):
                return f"column {name} is null in every row"
        elif not (pa.types.is_boolean(kind) if name in columns.flags else _is_text(kind)):
            wanted = "true or false" if name in columns.flags else "text"
            return f"column {name} is {_shown(kind)}, not {wanted}"
    if extra := [name for name in names if name not in columns.names]:
        return f"column {_shown(extra[0])} is not in the published schema"
    return None


def index_columns(schema: "pa.Schema") -> tuple[str, ...]:
    """The columns that are pandas' index: no part of a row, and left out."""
    return tuple(name for name in schema.names if INDEX.fullmatch(name))


def _stored(kind: "pa.DataType") -> "pa.DataType":
    """The type of the values themselves."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        return _stored(kind.storage_type)
    return _stored(kind.value_type) if pa.types.is_dictionary(kind) else kind


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _shown(word: object, most: int = 60) -> str:
    """A name, a type or a text as a part of one line."""
    return "".join(c if c.isprintable() else "?" for c in str(word)[:most])


def first_line(error: Exception) -> str:
    """The beginning of a library's error text."""
    return _shown((str(error).strip() or type(error).__name__).splitlines()[0], 100)


def reading_errors() -> tuple[type[Exception], ...]:
    """What pyarrow raises for a file that it cannot read, or whose names are no UTF-8."""
    import pyarrow as pa

    return pa.ArrowException, OSError, UnicodeError


def plain(batch: "pa.RecordBatch", columns: Columns) -> "pa.RecordBatch":
    """The batch with every text as Arrow's `string` and each flag as `bool`, however the file stores them."""
    import pyarrow as pa

    kinds = [pa.bool_() if name in columns.flags else pa.string() for name in batch.schema.names]
    arrays = [c if c.type == k else c.cast(k) for c, k in zip(batch.columns, kinds, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def unreadable(batch: "pa.RecordBatch", columns: Columns, required: Collection[str]) -> list[Bad]:
    """Rows with a null in a `required` column, or with text that is no UTF-8."""
    import numpy as np
    import pyarrow.compute as pc

    bad: dict[int, str] = {}
    for name in columns.texts:
        if name in required and batch[name].null_count:
            for row in np.flatnonzero(pc.is_null(batch[name]).to_numpy(zero_copy_only=False)):
                bad.setdefault(int(row), f"{name} is null")
        for row in _undecodable(batch[name]):
            bad.setdefault(row, f"{name} is not UTF-8")
    return [Bad(row, bad[row]) for row in sorted(bad)]


def _undecodable(column: "pa.Array") -> Iterator[int]:
    import pyarrow as pa

    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        for row, value in enumerate(column.cast(pa.large_binary())):
            try:
                (value.as_py() or b"").decode()
            except UnicodeDecodeError:
                yield row
