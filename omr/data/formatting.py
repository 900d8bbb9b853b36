"""One parquet shard -> its lines in the scratch: what a worker process of the data stage does.

A worker needs neither transformers nor nemo-skills, unless a prompt could not be compiled.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from omr import files, recipe
from omr.data import corpus, json_lines, lengths, prompts, rows, scratch
from omr.data.by_recipe import filters, formulas
from omr.data.corpus import Shard
from omr.data.held_out.choice import Rule
from omr.data.prompts import Compiled
from omr.data.quality.lists import Rows
from omr.data.rows import Reject, Result
from omr.errors import OmrError
from omr.recipe import Columns

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

SAMPLE = 16  # rows of each shard whose lines are proved
SHORT = "it has fewer rows than its footer says"
BATCH = 2_000_000  # bytes of text at a time: small enough for the processor's cache, large enough for columns


@dataclass(frozen=True)
class Job:
    """What every shard of one output has in common."""

    corpus: recipe.Corpus
    round: recipe.Round
    seed: int
    buckets: int
    room: int  # bytes of lines held before a flush
    work: Path
    skip: bool  # BAD_ROWS=skip
    compiled: dict[str, Compiled]
    tokenizer: Path | None  # tokenizer.json of the length filter
    slow: Path | None = None  # folder of the prompt tokenizer, for a prompt that is not exact
    bearable: int = 10  # malformed rows that BAD_ROWS=skip leaves out, at most
    remedy: str = corpus.ANEW  # what brings a whole copy of a shard
    drop: Rows | None = None  # rows that DROP leaves out
    held_out: Rule | None = None  # which rows VALIDATION holds out


@dataclass(frozen=True)
class Chunk:
    """Some rows of a row group."""

    group: int
    numbers: "np.ndarray"  # of the rows, in the file
    batch: "pa.RecordBatch"

    def only(self, mask: "np.ndarray") -> "Chunk":
        """The rows where the mask is true."""
        import pyarrow as pa

        if mask.all():
            return self
        return Chunk(self.group, self.numbers[mask], self.batch.filter(pa.array(mask)))


class Damaged(Exception):
    """A row group cannot be read from `row` (in the group) on."""

    def __init__(self, row: int, error: Exception) -> None:
        super().__init__(f"cannot be read ({rows.first_line(error)})")
        self.row, self.error = row, error


def run(job: Job, shard: Shard, take: int, digest: str | None = None) -> Result:
    """Format the first `take` rows of a shard into the scratch; `digest` is its sha256 where that is known.

    An OmrError names file, row group and row of what is malformed.
    """
    import pyarrow as pa

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    # Rows that are held out have a bucket of their own, behind those that are mixed.
    writer = scratch.Writer(job.work, shard.name, job.buckets + bool(job.held_out), job.room)
    try:
        shard.check()
        formatter = Formatter(job, shard)
        for chunk in formatter.chunks(take):
            kept, held_out = formatter.hold_out(formatter.select(chunk))
            lines = formatter.lines(kept)
            buckets = scratch.choose(job.seed, shard.name, kept.numbers, job.buckets)
            buckets[held_out] = job.buckets
            writer.add(lines, buckets)
            formatter.result.kept += len(lines) - int(held_out.sum())
        result = formatter.result
        result.sha256 = digest or files.sha256(shard.path)  # it was just read, so this reads the page cache
        shard.check()
        writer.close(result.facts())
    except BaseException:
        writer.abandon()
        raise
    return result


class Formatter:
    """What is done to the rows of a shard, in the order that decides which fault is seen."""

    def __init__(self, job: Job, shard: Shard) -> None:
        self.job, self.shard, self.result = job, shard, Result()
        self.filtered = shard.split in job.round.filtered
        self.columns, self.filters = job.corpus.columns, job.corpus.filters_of(shard.split)
        self.dropped = job.drop.of(shard.split, shard.name) if job.drop else []
        self.proved = False
        self.counter, self.min_tokens = None, job.corpus.min_tokens(shard.split)
        if self.filtered and self.min_tokens:
            self.counter = _counter(job.tokenizer, job.tokenizer.stat().st_mtime_ns)

    @functools.cached_property
    def template(self) -> json_lines.Template:
        """What writes the lines."""
        job, split = self.job, self.shard.split
        compiled, prompt = job.compiled[split], None
        if not compiled.exact:
            prompt = prompts.load(job.corpus, split, prompts.tokenizer(job.corpus, job.slow))
        return json_lines.Template(compiled, self.columns, job.corpus.sources(split), prompt)

    def chunks(self, take: int) -> Iterator[Chunk]:
        """The first `take` rows of the shard, without those that the round's cheap columns leave out."""
        import pyarrow.parquet as pq

        if fault := corpus.footer(self.shard.path, self.columns).fault:
            self.result.read += take
            self.reject(None, 0, take, fault)
            return
        with pq.ParquetFile(self.shard.path, pre_buffer=False, buffer_size=1 << 20) as file:
            first = 0  # row of the group
            for group in range(file.num_row_groups):
                count = min(file.metadata.row_group(group).num_rows, take - first)
                if not count:  # an empty group, or all that are wanted are read
                    continue
                self.result.read += count
                keep = None
                try:
                    keep = self.wanted(file, group, first, count)
                    yield from read(file, self.columns, group, first, keep)
                except Damaged as damage:
                    corpus.refuse_disk_error(self.shard.path, damage.error)
                    gone = count if keep is None else int(keep[damage.row :].sum())
                    self.reject(group, first + damage.row, gone, str(damage), count - damage.row)
                first += count

    def wanted(self, file: "pq.ParquetFile", group: int, first: int, count: int) -> "np.ndarray":
        """Which of the first `count` rows of a row group may stay, as a mask.

        Where the round filters, its cheap columns are read for it, before any text.
        """
        import numpy as np

        if not (self.filtered and self.filters):
            return np.ones(count, bool)
        try:
            cheap = list(dict.fromkeys(f.column for f in self.filters))
            table = file.read_row_group(group, columns=cheap, use_threads=False)
            if len(table) < count:
                raise OSError(SHORT)
        except rows.reading_errors() as error:
            raise Damaged(0, error) from None
        batch = rows.plain(table.slice(0, count).combine_chunks().to_batches()[0], self.columns)
        keep, bad = filters.candidates(self.filters, batch, self.result)
        for entry in bad:
            self.reject(group, first + entry.row, 1, entry.reason)
        return keep

    def select(self, chunk: Chunk) -> Chunk:
        """The rows of a chunk that are kept."""
        import numpy as np

        if self.dropped:
            listed = np.isin(chunk.numbers, self.dropped)
            self.result.dropped["DROP"] += int(listed.sum())
            chunk = chunk.only(~listed)
        required = self.job.corpus.required(self.shard.split)
        chunk = self.without(chunk, rows.unreadable(chunk.batch, self.columns, required))
        if self.counter:
            texts = chunk.batch[self.columns.solution].to_pylist()
            long = self.counter.at_least(texts, self.min_tokens)
            self.result.dropped["length"] += int((~long).sum())
            chunk = chunk.only(long)
        batch, bad = formulas.computed(self.job.corpus, self.shard.split, chunk.batch, self.result)
        return self.without(replace(chunk, batch=batch), bad)

    def hold_out(self, chunk: Chunk) -> "tuple[Chunk, np.ndarray]":
        """The chunk, and which of its rows VALIDATION holds out, as a mask."""
        import numpy as np

        if self.job.held_out is None:
            return chunk, np.zeros(len(chunk.batch), bool)
        texts = chunk.batch[self.columns.problem].to_pylist()
        found = self.job.held_out.rows(self.shard.split, texts)
        self.result.held_out += int(found.held_out.sum())
        self.result.problems = sorted({*self.result.problems, *found.hashes})
        return self.without(chunk, [rows.Bad(*entry) for entry in found.without.items()]), found.held_out

    def lines(self, chunk: Chunk) -> "list[bytes | memoryview]":
        """The line of each row that is kept; where the loop writes them, the first ones are proved."""
        if len(chunk.batch) and self.template.compiled.exact and not self.proved:
            self.template.prove(chunk.batch[:SAMPLE])
            self.proved = True
        return self.template.lines(chunk.batch)

    def without(self, chunk: Chunk, bad: list[rows.Bad]) -> Chunk:
        """The chunk without its malformed rows, which are listed or stop the run."""
        import numpy as np

        for entry in bad:
            self.reject(chunk.group, int(chunk.numbers[entry.row]), 1, entry.reason)
        return chunk.only(~np.isin(np.arange(len(chunk.batch)), [entry.row for entry in bad]))

    def reject(self, group: int | None, row: int, count: int, reason: str, lost: int | None = None) -> None:
        """`count` rows from `row` (in the file) on are malformed: list them, or stop with an OmrError.

        Against the limit of BAD_ROWS=skip counts what is `lost`, where the filter's part of it is not known.
        """
        lost = count if lost is None else lost
        if not self.job.skip:
            place = "" if group is None else f" row group {group}, row {row}:"
            skip = ", or BAD_ROWS=skip leaves it out" if lost <= self.job.bearable else ""
            raise OmrError(f"{self.shard.path}:{place} {reason}; {self.job.remedy}{skip}")
        self.result.rejected.append(Reject(self.shard.name, group, row, count, reason))
        self.result.lost += lost


@functools.lru_cache(maxsize=1)
def _counter(path: Path, made: int) -> lengths.Counter:
    """A process loads its tokenizer once: that takes as long as counting hundreds of rows."""
    return lengths.Counter(path)


def read(
    file: "pq.ParquetFile", columns: Columns, group: int, first: int, keep: "np.ndarray"
) -> Iterator[Chunk]:
    """The rows of a row group where the mask `keep` is true; its first row is row `first` of the file.

    Few rows of many batches come together, as each call for a chunk has a price. Damaged says where reading
    ended; what was read before comes first.
    """
    import numpy as np
    import pyarrow as pa

    if not keep.any():
        return
    batches, held, start, damage = _batches(file, columns, group, len(keep)), [], 0, None
    while True:
        try:  # around the reading alone: what fails elsewhere is no damage of the file
            batch = next(batches)
        except StopIteration:
            damage = Damaged(start, OSError(SHORT)) if start < len(keep) else None
            break
        except rows.reading_errors() as error:
            damage = Damaged(start, error)
            break
        wanted = np.flatnonzero(keep[start : start + len(batch)])
        if len(wanted):
            kept = rows.plain(batch, columns)
            kept = kept if len(wanted) == len(batch) else kept.take(pa.array(wanted))
            held.append(Chunk(group, wanted + (first + start), kept))
        start += len(batch)
        if sum(chunk.batch.nbytes for chunk in held) > BATCH // 2:
            yield _joined(held)
            held = []
    if held:
        yield _joined(held)
    if damage:
        raise damage


def _batches(file: "pq.ParquetFile", columns: Columns, group: int, count: int) -> "Iterator[pa.RecordBatch]":
    """The first `count` rows of a row group in batches of about BATCH bytes."""
    meta = file.metadata.row_group(group)
    each = max(1, min(count, int(BATCH * meta.num_rows / max(1, meta.total_byte_size))))
    names, left = list(columns.names), count
    for batch in file.iter_batches(each, row_groups=[group], columns=names, use_threads=False):
        yield batch.slice(0, left)
        left -= len(batch)
        if left <= 0:
            return


def _joined(chunks: list[Chunk]) -> Chunk:
    import numpy as np
    import pyarrow as pa

    if len(chunks) == 1:
        return chunks[0]
    numbers = np.concatenate([chunk.numbers for chunk in chunks])
    return Chunk(chunks[0].group, numbers, pa.concat_batches([chunk.batch for chunk in chunks]))
