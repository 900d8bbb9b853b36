"""Rows of one problem beside each other: several expected answers, and solutions that say nearly the same.

Rows are records of RECORD, in any order; a corpus of millions is dealt with bucket by bucket of its problems.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omr.data.quality import text

if TYPE_CHECKING:
    import numpy as np

NEAR = 0.8  # of the n-grams in common: nearly the same


def record() -> "np.dtype":
    """What is kept of a row until all rows of its problem are there: 88 bytes."""
    import numpy as np

    fields = [("problem", "u8"), ("answer", "u8"), ("shard", "u4"), ("row", "u4"), ("mark", "u1", text.BINS)]
    return np.dtype(fields)


@dataclass(frozen=True)
class Several:
    """The rows of a problem that has more than one expected answer."""

    answers: list[int]  # their hashes; the most frequent first
    rows: "np.ndarray"  # records


def by_problem(rows: "np.ndarray") -> "Iterator[np.ndarray]":
    """The records of each problem, in the order of their shards and rows."""
    import numpy as np

    ordered = rows[np.lexsort((rows["row"], rows["shard"], rows["problem"]))]
    if len(ordered):
        yield from np.split(ordered, np.flatnonzero(np.diff(ordered["problem"])) + 1)


def several_answers(problem: "np.ndarray") -> Several | None:
    """The problem if its rows have more than one expected answer; 0 stands for none."""
    import numpy as np

    answers, counts = np.unique(problem["answer"][problem["answer"] > 0], return_counts=True)
    return (
        Several(answers[np.argsort(-counts, kind="stable")].tolist(), problem) if len(answers) > 1 else None
    )


def near_duplicates(problem: "np.ndarray") -> "np.ndarray":
    """The records of solutions that an earlier one of the problem is nearly the same as; that one stays."""
    import numpy as np

    stay = np.zeros(len(problem), bool)
    for at, row in enumerate(problem):
        stay[at] = not (text.similarity(row["mark"], problem["mark"][:at][stay[:at]]) >= NEAR).any()
    return problem[~stay]
