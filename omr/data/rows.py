"""Raw rows: are they whole, and does a round keep them? Arrow columns in, masks, counts and reasons out."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from omr import recipe
from omr.files import Json

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TEXTS = (
    "expected_answer",
    "problem_type",
    "problem_source",
    "generation_model",
    "pass_rate_72b_tir",
    "problem",
    "generated_solution",
    "inference_mode",
)
FLAG = "used_in_kaggle"
COLUMNS = (*TEXTS, FLAG)
SOURCE, RATE = "problem_source", "pass_rate_72b_tir"
PROBLEM, SOLUTION = "problem", "generated_solution"  # required: null elsewhere is JSON's null
INDEX = re.compile(r"__index_level_[0-9]+__")  # how pandas calls an index that has no name
LEFT, SPENT = b"Remaining code executions: ", b"You have run out of code executions!"


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
        split["dropped"].update(result.dropped)
        for reject in result.rejected:
            split["rejected"][reject.reason] += reject.rows
    for split in splits.values():
        for key in ("dropped", "rejected"):
            split[key] = {reason: count for reason, count in sorted(split[key].items()) if count}
    return splits


@dataclass(frozen=True)
class Bad:
    """A malformed row: its number in the batch, and why."""

    row: int
    reason: str


def schema_fault(schema: "pa.Schema") -> str | None:
    """Why a file is not of the published schema, or None.

    Text is text however Arrow stores it. A column of type null has nulls, so it cannot be a required one.
    """
    import pyarrow as pa

    names = [name for name in schema.names if not INDEX.fullmatch(name)]
    if not names:
        return "has no columns"
    for name in COLUMNS:
        if (count := names.count(name)) != 1:
            return f"column {name} is there {count} times" if count else f"column {name} is missing"
        kind = _stored(schema.field(name).type)
        if pa.types.is_null(kind):
            if name in (PROBLEM, SOLUTION):
                return f"column {name} is null in every row"
        elif not (_is_text(kind) if name in TEXTS else pa.types.is_boolean(kind)):
            return f"column {name} is {_shown(kind)}, not {'text' if name in TEXTS else 'true or false'}"
    if extra := [name for name in names if name not in COLUMNS]:
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


def plain(batch: "pa.RecordBatch") -> "pa.RecordBatch":
    """The batch with every text as Arrow's `string` and the flag as `bool`, however the file stores them."""
    import pyarrow as pa

    kinds = [pa.bool_() if name == FLAG else pa.string() for name in batch.schema.names]
    columns = [c if c.type == k else c.cast(k) for c, k in zip(batch.columns, kinds, strict=True)]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def candidates(
    corpus: recipe.Corpus, batch: "pa.RecordBatch", tally: Tally
) -> "tuple[np.ndarray, list[Bad]]":
    """Which rows pass the round's cheap filter (source and pass rate), as a mask; the others are tallied.

    The pass rate is read as float() does, and only where the source is an olympiad's: `nan` stays.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    olympiad = pc.is_in(batch[SOURCE], pa.array(corpus.olympiad_sources, batch[SOURCE].type))
    mask = olympiad.to_numpy(zero_copy_only=False)
    tally.dropped["source"] += int(len(mask) - mask.sum())
    encoded = batch[RATE].dictionary_encode()
    verdicts = [_verdict(corpus, rate) for rate in (*encoded.dictionary.cast(pa.binary()).to_pylist(), None)]
    codes = encoded.indices.fill_null(len(verdicts) - 1).to_numpy(zero_copy_only=False)
    bad = []
    for code, verdict in enumerate(verdicts):
        if verdict is None:
            continue
        hit = mask & (codes == code)
        if verdict.startswith("pass rate is"):
            bad += [Bad(int(row), verdict) for row in np.flatnonzero(hit)]
        else:
            tally.dropped[verdict] += int(hit.sum())
        mask = mask & ~hit
    return mask, sorted(bad, key=lambda b: b.row)


def _verdict(corpus: recipe.Corpus, stored: bytes | None) -> str | None:
    """Why the filter drops an olympiad row of this pass rate, or None when it stays."""
    if stored is None:
        return "pass rate is null, no number"
    try:
        if (rate := stored.decode()) == "n/a":
            return "pass rate n/a"
        return "pass rate" if float(rate) > corpus.max_pass_rate else None
    except UnicodeDecodeError:
        return "pass rate is not UTF-8"
    except ValueError:
        return f"pass rate is {rate[:40]!r}, no number"


def unreadable(batch: "pa.RecordBatch") -> list[Bad]:
    """Rows without a problem or a solution, or with text that is no UTF-8."""
    import numpy as np
    import pyarrow.compute as pc

    bad: dict[int, str] = {}
    for name in TEXTS:
        if name in (PROBLEM, SOLUTION) and batch[name].null_count:
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


def executions(solutions: "pa.StringArray") -> "tuple[np.ndarray, list[Bad], int]":
    """The prompt's execution count of each solution, 0 where it has none and so is malformed.

    Beside the counts: the malformed rows, and how many counts of two digits the recipe reads by their first.
    """
    import numpy as np
    import pyarrow as pa

    found = [_execution_count(text) for text in solutions.cast(pa.binary()).to_pylist()]
    bad = [
        Bad(row, "the solution has neither ending of tool use") for row, (n, _) in enumerate(found) if not n
    ]
    return np.array([n for n, _ in found], np.int64), bad, sum(longer for _, longer in found)


def _execution_count(solution: bytes) -> tuple[int, bool]:
    """The recipe's reading of a solution: its count, 0 if there is none; whether a second digit is lost.

    The recipe takes the one character that begins the first word after the first marker (so 12 counts
    as 1), and adds one; without a marker the executions must have run out, which counts as 1.
    """
    before, marker, rest = solution.partition(LEFT)
    if not marker:
        return int(SPENT in before), False
    if rest[:1].isdigit():
        return int(rest[:1]) + 1, rest[1:2].isdigit()
    # A space or an exotic digit after the marker, or no number at all.
    words = rest.partition(LEFT)[0].decode().split()
    try:
        return int(words[0][0]) + 1, words[0][1:2].isdigit()
    except (IndexError, ValueError):
        return 0, False


def first(path: Path, most: int, counted: bool) -> "Iterator[tuple[dict, int | None]]":
    """The good rows among the first `most` of a file, each with its execution count where that is `counted`.

    A file that cannot be read has none here; its formatting says so.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            if schema_fault(file.schema_arrow):
                return
            batch = plain(next(file.iter_batches(most, columns=list(COLUMNS), use_threads=False)))
    except (*reading_errors(), StopIteration):
        return
    bad = [entry.row for entry in unreadable(batch)]
    batch = batch.filter(pa.array(~np.isin(np.arange(len(batch)), bad)))
    counts = executions(batch[SOLUTION])[0].tolist() if counted else [None] * len(batch)
    for row, count in zip(batch.to_pylist(), counts, strict=True):
        if count != 0:
            yield row, count
