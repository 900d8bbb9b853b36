"""One shard: what each of its rows shows by itself, and what has to be compared with other rows."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from omr.data import formatting
from omr.data.corpus import PlannedShard
from omr.data.quality import groups, text
from omr.data.quality.overlap import Benchmark, Pair
from omr.evaluation.grading import rules
from omr.evaluation.modes import genselect

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Plan:
    """What every shard is looked at with."""

    job: formatting.Job
    share: float  # of the problems that are looked at, 0 to 1
    benchmark: Benchmark | None
    answer: str | None  # the column of expected answers; None: the corpus has none


@dataclass
class Scan:
    """What a shard showed. Rows are numbers in the shard."""

    rows: int = 0  # that the round keeps
    rows_looked_at: int = 0
    found: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))  # finding -> rows
    to_grade: list[tuple[int, str, str]] = field(default_factory=list)  # row, given, expected
    answers: dict[int, str] = field(default_factory=dict)  # hash -> expected answer
    overlaps: list[tuple[int, Pair, str]] = field(default_factory=list)  # row, with what, its problem
    records: "np.ndarray | None" = None  # groups.record() of each row looked at


def scan(plan: Plan, shard: PlannedShard, number: int) -> Scan:
    """Look at the rows of a shard that the round keeps; `number` stands for it in the records."""
    import numpy as np
    import pyarrow as pa

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    made, records = Scan(), []
    formatter = formatting.Formatter(plan.job, shard)
    for chunk in formatter.chunks(shard.take):
        chunk = formatter.select(chunk)
        records += _look(plan, shard.split, number, chunk, made)
    made.records = np.array(records, groups.record())
    made.rows_looked_at = len(records)
    made.found = dict(made.found)
    return made


def _look(
    plan: Plan, split: str, number: int, chunk: formatting.Chunk, made: Scan
) -> Iterator[tuple[int, int, int, int, "np.ndarray"]]:
    """Look at the rows of a chunk; yields the record of each that the sample has."""
    columns = plan.job.corpus.columns
    problems, solutions = (chunk.batch[name].to_pylist() for name in (columns.problem, columns.solution))
    expected = chunk.batch[plan.answer].to_pylist() if plan.answer else [None] * len(problems)
    made.rows += len(problems)
    for row, problem, solution, answer in zip(
        chunk.numbers.tolist(), problems, solutions, expected, strict=True
    ):
        words = text.words(problem)
        if plan.benchmark and (pair := plan.benchmark.find(words)):
            made.found["benchmark"].append(row)
            made.overlaps.append((row, pair, problem))
        problem_hash = text.digest(words)
        if problem_hash >= plan.share * 2**64:
            continue
        solved = text.words(solution)
        if text.SPECIAL.search(problem) or text.SPECIAL.search(solution):
            made.found["template-tokens"].append(row)
        if text.repeats(solved):
            made.found["loops"].append(row)
        given = answer_of(split, solution)
        if given is None:
            made.found["no-answer"].append(row)
        answer_hash = 0
        if answer is not None and (plain := "".join(answer.split())):
            answer_hash = _hash(plain)
            made.answers[answer_hash] = answer
            if given is not None and "".join(given.split()) != plain:
                made.to_grade.append((row, given, answer))
        yield problem_hash, answer_hash, number, row, text.signature(solved)


def _hash(plain: str) -> int:
    """64 bits of an answer, in which every sign counts."""
    return int.from_bytes(hashlib.blake2b(plain.encode("utf-8", "replace"), digest_size=8).digest(), "big")


def answer_of(split: str, solution: str) -> str | None:
    """What a solution ends with: the content of its last box; of genselect the solution that it chose."""
    if split != "genselect":
        return rules.boxed(solution)
    found = genselect.JUDGMENT.findall(solution)
    return found[-1] if found else None
