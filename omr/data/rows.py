"""Raw rows: are they whole, and does a round keep them? Arrow columns in, masks, counts and reasons out."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from omr import recipe

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
LEFT, SPENT = b"Remaining code executions: ", b"You have run out of code executions!"


@dataclass
class Tally:
    """What became of a shard's rows."""

    read: int = 0
    kept: int = 0
    dropped: Counter = field(default_factory=Counter)  # by the round's filter: reason -> rows
    two_digits: int = 0  # execution counts that the recipe's one-digit reading cuts


@dataclass(frozen=True)
class Bad:
    """A malformed row: its number in the batch, and why."""

    row: int
    reason: str


def schema_fault(schema: "pa.Schema") -> str | None:
    """Why a file is not of the published schema, or None."""
    import pyarrow as pa

    def text(kind: "pa.DataType") -> bool:
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        return pa.types.is_string(kind) or pa.types.is_large_string(kind)

    for name in COLUMNS:
        if name not in schema.names:
            return f"column {name} is missing"
        kind = schema.field(name).type
        if not (text(kind) if name in TEXTS else pa.types.is_boolean(kind)):
            return f"column {name} is {kind}, not {'text' if name in TEXTS else 'true or false'}"
    if extra := [name for name in schema.names if name not in COLUMNS]:
        return f"column {extra[0]} is not in the published schema"
    return None


def plain(batch: "pa.RecordBatch") -> "pa.RecordBatch":
    """The batch with every text as Arrow's `string`, however the file stores it."""
    import pyarrow as pa

    columns = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in batch.columns]
    columns = [c.cast(pa.string()) if pa.types.is_large_string(c.type) else c for c in columns]
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
    verdicts = [_verdict(corpus, rate) for rate in (*encoded.dictionary.to_pylist(), None)]
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


def _verdict(corpus: recipe.Corpus, rate: str | None) -> str | None:
    """Why the filter drops an olympiad row of this pass rate, or None when it stays."""
    if rate == "n/a":
        return "pass rate n/a"
    try:
        return "pass rate" if float(rate) > corpus.max_pass_rate else None
    except (TypeError, ValueError):
        return f"pass rate is {'null' if rate is None else repr(rate[:40])}, no number"


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
    except (pa.ArrowException, OSError, StopIteration):
        return
    bad = [entry.row for entry in unreadable(batch)]
    batch = batch.filter(pa.array(~np.isin(np.arange(len(batch)), bad)))
    counts = executions(batch[SOLUTION])[0].tolist() if counted else [None] * len(batch)
    for row, count in zip(batch.to_pylist(), counts, strict=True):
        if count != 0:
            yield row, count
