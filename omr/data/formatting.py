"""One parquet shard -> its lines in the scratch: what a worker process of the data stage does.

A worker gets plain values (`Job`) and needs neither transformers nor nemo-skills, unless a prompt could
not be compiled.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from omr import files, recipe
from omr.data import lengths, prompts, rows, scratch
from omr.data.corpus import Shard
from omr.data.prompts import Compiled
from omr.errors import OmrError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from omr.data.json_lines import Source

SAMPLE = 16  # rows of each shard whose lines are proved
BATCH = 2_000_000  # bytes of text at a time: small enough for the processor's cache, large enough for columns


@dataclass(frozen=True)
class Job:
    """What every shard of one output has in common."""

    corpus: recipe.Corpus
    round: recipe.Round
    seed: int
    buckets: int
    room: int  # bytes of lines held before a flush
    codec: str  # of the scratch
    work: Path
    skip: bool  # BAD_ROWS=skip
    compiled: dict[str, Compiled]
    tokenizer: Path | None  # tokenizer.json of the length filter
    slow: Path | None = None  # folder of the prompt tokenizer, for a prompt that is not exact


@dataclass
class Result(rows.Tally):
    """What became of a shard, as its facts say it."""

    rejected: list[dict] = field(default_factory=list)  # row group, row (in the file), rows, reason
    sha256: str = ""

    @property
    def bad(self) -> int:
        """Rows that were left out because they are malformed."""
        return sum(entry["rows"] for entry in self.rejected)

    def facts(self) -> dict:
        """As JSON keeps it."""
        return {
            "read": self.read,
            "kept": self.kept,
            "dropped": dict(self.dropped),
            "two_digits": self.two_digits,
            "rejected": self.rejected,
            "sha256": self.sha256,
        }


def sha256(shard: Shard) -> str:
    """Hex digest of a shard's bytes."""
    return files.sha256(shard.path)


def run(job: Job, shard: Shard, take: int, digest: str | None = None) -> dict:
    """Format the first `take` rows of a shard into the scratch; returns its facts.

    An OmrError names file, row group and row of what is malformed.
    """
    import pyarrow as pa

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    result = Result()
    steps = _Steps(job, shard.split, result)
    writer = scratch.Writer(job.work, shard.name, job.buckets, _memory(job.room), job.codec)
    try:
        shard.check()
        for numbers, sources in _formatted(steps, job, shard, take, result):
            chosen = scratch.choose(job.seed, shard.name, numbers, job.buckets)
            for source in sources:
                writer.add(source, chosen[: len(source)])
                chosen = chosen[len(source) :]
            result.kept += len(numbers)
        result.sha256 = digest or sha256(shard)  # it was just read, so this reads the page cache
        shard.check()
        writer.close(result.facts())
    except BaseException:
        writer.abandon()
        raise
    return result.facts()


def _formatted(steps: "_Steps", job: Job, shard: Shard, take: int, result: Result) -> Iterator[tuple]:
    """Of what is kept, batch by batch: row numbers in the file, and what writes their lines."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    reject = _Rejects(job, shard, result)
    try:
        file = pq.ParquetFile(shard.path, pre_buffer=False, buffer_size=1 << 20)
    except (pa.ArrowException, OSError) as error:
        reject(None, 0, 0, f"cannot be read as parquet ({_first(error)})")
        return
    with file:
        if fault := rows.schema_fault(file.schema_arrow):
            reject(None, 0, min(take, file.metadata.num_rows), fault)
            return
        first = 0
        for group in range(file.num_row_groups):
            size = min(file.metadata.row_group(group).num_rows, take - first)
            if size > 0:
                result.read += size
                yield from _group(steps, file, group, first, size, reject)
                first += size


def _first(error: Exception) -> str:
    """The beginning of a library's error text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:100]


class _Rejects:
    """Stops at malformed rows, or lists them."""

    def __init__(self, job: Job, shard: Shard, result: Result) -> None:
        self.skip, self.shard, self.result = job.skip, shard, result

    def __call__(self, group: int | None, row: int, count: int, reason: str) -> None:
        """`count` rows from `row` (in the file) on are malformed."""
        if not self.skip:
            place = "" if group is None else f" row group {group}, row {row}:"
            raise OmrError(f"{self.shard.path}:{place} {reason}; bring a better copy, or set BAD_ROWS=skip")
        entry = {"file": self.shard.name, "row_group": group, "row": row, "rows": count, "reason": reason}
        self.result.rejected.append(entry)


class _Steps:
    """What is done to each batch of a split, in the order that decides which fault is seen."""

    def __init__(self, job: Job, split: str, result: Result) -> None:
        self.corpus, self.result = job.corpus, result
        self.filtered = split in job.round.filtered
        self.counts_executions = job.corpus.prompts[split].execution_count
        compiled = job.compiled[split]
        prompt = None
        if not compiled.exact:
            tokenizer = prompts.tokenizer(job.corpus, job.slow)
            prompt = prompts.load(job.corpus, split, tokenizer)
        self.formatter, self.proved = rows.Formatter(compiled, prompt), not compiled.exact
        # Genselect answers are short: the recipe filters them by source and pass rate alone.
        self.counter = None
        if self.filtered and split != "genselect":
            self.counter = _counter(job.tokenizer, job.tokenizer.stat().st_mtime_ns)

    def take(
        self, batch: "pa.RecordBatch", reject: Callable[[int, str], None]
    ) -> "tuple[np.ndarray, list[Source]]":
        """Which rows are kept, and what writes their lines; `reject` is told of malformed rows."""
        import numpy as np

        left = np.arange(len(batch))

        def without(bad: list[rows.Bad]) -> None:
            nonlocal batch, left
            if bad:
                for entry in bad:
                    reject(int(left[entry.row]), entry.reason)
                batch, left = _part(batch, left, ~np.isin(np.arange(len(batch)), [b.row for b in bad]))

        without(rows.unreadable(batch))
        if self.counter:
            long = self.counter.at_least(batch[rows.SOLUTION].to_pylist(), self.corpus.min_tokens)
            self.result.dropped["length"] += int((~long).sum())
            batch, left = _part(batch, left, long)
        counts = None
        if self.counts_executions:
            counts, bad, two_digits = rows.executions(batch[rows.SOLUTION])
            if bad:
                without(bad)
                counts, _, two_digits = rows.executions(batch[rows.SOLUTION])
            self.result.two_digits += two_digits
        if len(batch) and not self.proved:
            few = slice(SAMPLE)
            self.formatter.prove(batch[few], None if counts is None else counts[few])
            self.proved = True
        return left, self.formatter.lines(batch, counts)


@functools.lru_cache(maxsize=1)
def _memory(room: int) -> scratch.Memory:
    return scratch.Memory(room)


@functools.lru_cache(maxsize=1)
def _counter(path: Path, made: int) -> lengths.Counter:
    """A process loads its tokenizer once: that takes as long as counting hundreds of rows."""
    return lengths.Counter(path)


def _part(
    batch: "pa.RecordBatch", left: "np.ndarray", mask: "np.ndarray"
) -> "tuple[pa.RecordBatch, np.ndarray]":
    import pyarrow as pa

    return (batch, left) if mask.all() else (batch.filter(pa.array(mask)), left[mask])


def _group(
    steps: _Steps, file: "pq.ParquetFile", group: int, first: int, count: int, reject: _Rejects
) -> Iterator[tuple]:
    """One row group; where the round filters, its cheap columns are read before its text."""
    import numpy as np
    import pyarrow as pa

    keep, start, size = np.ones(count, bool), 0, 0
    held: list[tuple[pa.RecordBatch, np.ndarray]] = []  # what was kept of batches, and its row numbers

    def take() -> tuple:
        batch, numbers = held[0] if len(held) == 1 else _joined(held)
        left, sources = steps.take(batch, lambda row, why: reject(group, int(numbers[row]), 1, why))
        held.clear()  # not before: what fails there is no damage of the file, and is raised again below
        return numbers[left], sources

    try:
        if steps.filtered:
            cheap = file.read_row_group(group, columns=[rows.SOURCE, rows.RATE], use_threads=False)
            cheap = rows.plain(cheap.slice(0, count).combine_chunks().to_batches()[0])
            keep, bad = rows.candidates(steps.corpus, cheap, steps.result)
            for entry in bad:
                reject(group, first + entry.row, 1, entry.reason)
        if not keep.any():
            return
        for batch in _batches(file, group, count):
            here = np.flatnonzero(keep[start : start + len(batch)])
            if len(here):
                kept = rows.plain(batch if len(here) == len(batch) else batch.take(pa.array(here)))
                held.append((kept, here + (first + start)))
                size += kept.nbytes
            start += len(batch)
            if size > BATCH // 2:  # a round that keeps few rows of a batch collects them: a call has a price
                yield take()
                size = 0
        if held:
            yield take()
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault, not the file's
        if held:
            yield take()
        reject(group, first + start, int(keep[start:].sum()), f"cannot be read ({_first(error)})")


def _joined(held: "list[tuple[pa.RecordBatch, np.ndarray]]") -> "tuple[pa.RecordBatch, np.ndarray]":
    import numpy as np
    import pyarrow as pa

    batches, numbers = zip(*held, strict=True)
    return pa.concat_batches(batches), np.concatenate(numbers)


def _batches(file: "pq.ParquetFile", group: int, size: int) -> "Iterator[pa.RecordBatch]":
    """The first `size` rows of a row group in batches of about BATCH bytes."""
    meta = file.metadata.row_group(group)
    each = max(1, int(BATCH * meta.num_rows / max(1, meta.total_byte_size)))
    columns, left = list(rows.COLUMNS), size
    for batch in file.iter_batches(each, row_groups=[group], columns=columns, use_threads=False):
        yield batch.slice(0, left)
        left -= len(batch)
        if left <= 0:
            return
