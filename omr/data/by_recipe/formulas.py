"""What a recipe computes of a solution to fill a prompt's field: fields = {field = "name()"}.

omr/recipe/formulas.py has the names; a new formula gets its name there and its code here.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from omr.data import rows
from omr.data.rows import Bad, Tally
from omr.recipe import Corpus

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

LEFT, SPENT = b"Remaining code executions: ", b"You have run out of code executions!"


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


# What `fields = {field = "name()"}` computes from the solutions.
FORMULAS: "Mapping[str, Callable[[pa.StringArray], tuple[np.ndarray, list[Bad], int]]]" = {
    "execution_count": executions
}


def computed(
    corpus: Corpus, split: str, batch: "pa.RecordBatch", tally: Tally | None = None
) -> "tuple[pa.RecordBatch, list[Bad]]":
    """The batch with a column of texts, `name()`, for each formula of the split; and malformed rows."""
    import pyarrow as pa

    bad = []
    for name in corpus.formulas(split):
        values, odd, two_digits = FORMULAS[name.removesuffix("()")](batch[corpus.columns.solution])
        bad += odd
        if tally:
            tally.two_digits += two_digits
        batch = batch.append_column(name, pa.array(values).cast(pa.string()))
    return batch, bad


def first(path: Path, most: int, corpus: Corpus, split: str) -> "Iterator[dict[str, str | bool | None]]":
    """The good rows among the first `most` of a file, with what the split's formulas compute of each.

    A file that cannot be read has none here; its formatting says so.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(corpus.columns.names)
    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            if rows.schema_fault(file.schema_arrow, corpus.columns):
                return
            batch = rows.plain(
                next(file.iter_batches(most, columns=names, use_threads=False)), corpus.columns
            )
    except (*rows.reading_errors(), StopIteration):
        return
    bad = [entry.row for entry in rows.unreadable(batch, corpus.columns, corpus.required(split))]
    batch = batch.filter(pa.array(~np.isin(np.arange(len(batch)), bad)))
    batch, bad = computed(corpus, split, batch)
    odd = {entry.row for entry in bad}
    yield from (row for number, row in enumerate(batch.to_pylist()) if number not in odd)
