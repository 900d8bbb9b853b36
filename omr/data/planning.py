"""What is found out once, before any shard is formatted: footers, prompts, tokenizers."""

from dataclasses import asdict
from pathlib import Path

from omr import files, recipe
from omr.data import lengths, prompts, rows
from omr.data.corpus import Shard
from omr.errors import OmrError

LENGTH = "length.json"  # the length tokenizer's engine, in the work folder
SAMPLE = 16  # rows of a split's first and last shard on which its compiled prompt is proved


def survey(
    corpus: recipe.Corpus, found: list[Shard], folders: dict[str, Path | None], work: Path, skip: bool
) -> tuple[dict, list]:
    """Compiled prompts by split, and (rows, bytes of text) of each shard; writes the length tokenizer.

    A shard that is no parquet is an OmrError, or with `skip` counts no rows (its task lists it).
    """
    footers = [_footer(shard.path, skip) for shard in found]
    tokenizer = prompts.tokenizer(corpus, folders["prompt"])
    compiled = {}
    for split in dict.fromkeys(shard.split for shard in found):
        prompt = prompts.load(corpus, split, tokenizer)
        compiled[split] = prompts.compile(prompt)
        if compiled[split].exact:
            whole = [
                shard
                for shard, (count, _) in zip(found, footers, strict=True)
                if shard.split == split and count
            ]
            for shard in dict.fromkeys((*whole[:1], *whole[-1:])):
                _prove(corpus, split, compiled[split], prompt, shard)
    if "length" in folders:
        counting = prompts.tokenizer(corpus, folders["length"])
        lengths.export(counting, work / LENGTH)
    return {split: asdict(value) for split, value in compiled.items()}, footers


def holds(plan: dict, identity: dict, alone: bool) -> bool:
    """Whether what was done under a plan still counts.

    Compressed lines prove themselves by their checksums. Lines as they are were not worth that, nor a sync:
    a machine that crashed may have lost some, so they count until the next boot.
    """
    kept = plan["codec"] == "zstd" or (alone and plan["boot"] == files.boot())
    return plan["identity"] == identity and kept


def row_counts(paths: list[Path]) -> list[int]:
    """Rows of each file."""
    return [_footer(path, skip=False)[0] for path in paths]


def _footer(path: Path, skip: bool) -> tuple[int, int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        meta = pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        if skip:
            return 0, 0
        raise OmrError(
            f"{path}: cannot be read as parquet ({str(error).splitlines()[0][:100]}); bring it again,"
            " or leave it out with BAD_ROWS=skip"
        ) from None
    return meta.num_rows, sum(meta.row_group(n).total_byte_size for n in range(meta.num_row_groups))


def shares(found: list[Shard], footers: list[tuple[int, int]], limit: int | None) -> list[dict]:
    """Each shard as the plan keeps it: `take` is how many of its rows a LIMIT on each split leaves."""
    result, left = [], {shard.split: limit for shard in found}
    for shard, (count, size) in zip(found, footers, strict=True):
        take = count if limit is None else min(count, left[shard.split])
        if limit is not None:
            left[shard.split] -= take
        if take or limit is None:
            result.append({"name": shard.name, "split": shard.split, "path": str(shard.path), **shard.facts})
            result[-1] |= {"rows": count, "bytes": size, "take": take}
    return result


def _prove(
    corpus: recipe.Corpus, split: str, compiled: prompts.Compiled, prompt: prompts.Prompt, shard: Shard
) -> None:
    """The compiled prompt against the prompt itself, on the shard's first rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(shard.path, pre_buffer=False, buffer_size=1 << 20) as file:
            if rows.schema_fault(file.schema_arrow):
                return  # its task says so
            batch = next(file.iter_batches(SAMPLE, columns=list(rows.COLUMNS), use_threads=False))
    except (pa.ArrowException, OSError, StopIteration):
        return
    batch = rows.plain(batch)
    bad = {entry.row for entry in rows.unreadable(batch)}
    counts = None
    good = batch.take(pa.array([n for n in range(len(batch)) if n not in bad], pa.int64()))
    if corpus.prompts[split].execution_count:
        _, unended, _ = rows.executions(good[rows.SOLUTION])
        left = sorted(set(range(len(good))) - {entry.row for entry in unended})
        good = good.take(pa.array(left, pa.int64()))
        counts, _, _ = rows.executions(good[rows.SOLUTION])
    for number, row in enumerate(good.to_pylist()):
        values = {prompts.PROBLEM: row["problem"]}
        if counts is not None:
            values[prompts.COUNT] = int(counts[number])
        prompts.prove(compiled, prompt, [(values, row[rows.SOLUTION])])
