"""What an SFT file means for training: token lengths, rows too long, duplicates, steps and epochs.

Every line of the file is read. The tokens of every row are counted, or with STATS=sample those of some
20,000 rows, chosen by the hash of their bytes, with the 95% interval that this leaves. A row's tokens are
those of its `input` plus those of its `output`, counted apart because training joins them so.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omr import processes
from omr.data import lengths, prompts, statistics
from omr.data.prompts import TOKENIZER_FILES
from omr.data.statistics import PERCENTILES, Lengths, SplitLengths
from omr.errors import OmrError
from omr.files import human, write_text
from omr.progress import Progress
from omr.recipe import Corpus
from omr.reports import pages
from omr.reports.quality.found import Quality
from omr.reports.quality.section import sections

if TYPE_CHECKING:
    import numpy as np

SAMPLE = 20_000  # rows: an interval of about half a percent of the mean
PIECE = 64 << 20  # bytes of the file that a worker takes at a time
Z = 1.96  # standard errors in half a 95% interval


# ---- counting ----


@dataclass(frozen=True)
class Piece:
    """A part of the file: split and tokens of each row that was counted, and the hash of every row."""

    splits: list[str]
    tokens: "np.ndarray"  # (counted rows,) int64
    hashes: "np.ndarray"  # (rows,) uint64


def pieces(path: Path) -> list[tuple[int, int]]:
    """Byte ranges that cut the file; a line belongs to the range that its first byte is in."""
    size = path.stat().st_size
    return [(start, min(start + PIECE, size)) for start in range(0, size, PIECE)]


def _lines(path: Path, start: int, end: int) -> Iterator[bytes]:
    """The lines whose first byte is in [start, end)."""
    with path.open("rb") as handle:
        if start:
            handle.seek(start - 1)
            handle.readline()
        while handle.tell() < end and (line := handle.readline()):
            yield line


def count(path: Path, tokenizer: Path, share: float, start: int, end: int) -> Piece:
    """Count the rows in a byte range of the file: the `share` of them (0 to 1) whose hash is low enough."""
    import numpy as np

    counter = lengths.Counter(tokenizer)
    hashes, splits, texts = [], [], []
    for line in _lines(path, start, end):
        digest = int.from_bytes(hashlib.blake2b(line, digest_size=8).digest(), "big")
        hashes.append(digest)
        if digest < share * 2**64:
            try:
                row = json.loads(line)
                splits.append(row.get("inference_mode"))
                texts += [row["input"], row["output"]]
                if not all(isinstance(text, str) for text in (row["input"], row["output"])):
                    raise TypeError
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                raise OmrError(f"{path}: a line near byte {start} is no SFT row; make data FORCE=1") from None
    tokens = counter.count(texts).reshape(-1, 2).sum(axis=1) if texts else np.zeros(0, np.int64)
    return Piece(splits, tokens, np.array(hashes, np.uint64))


def measure(
    path: Path, origin: Mapping[str, Any], tokenizer: Path, *, stats: str, workers: int, longest: int
) -> Lengths:
    """Measure a finished SFT file, in `workers` processes.

    `origin` is the file's manifest, `tokenizer` a tokenizer.json; `stats` is full or sample, and a row of
    more than `longest` tokens is too long. A file that has not the rows of its manifest is an OmrError.
    """
    import numpy as np

    share = min(1.0, SAMPLE / max(1, origin["rows"])) if stats == "sample" else 1.0
    found = _count_all(path, tokenizer, share, workers)
    splits = np.array([split for piece in found for split in piece.splits])
    tokens = np.concatenate([piece.tokens for piece in found])
    hashes = np.concatenate([piece.hashes for piece in found])
    if len(hashes) != origin["rows"]:
        raise OmrError(
            f"{path}: has {len(hashes):,} rows, its manifest says {origin['rows']:,}; make data FORCE=1"
        )
    rows = {split: facts["kept"] for split, facts in origin["splits"].items()}
    if not set(splits.tolist()) <= set(rows):  # a corpus whose rows do not say which split they are of
        rows = {next(iter(rows)) if len(rows) == 1 else "all": sum(rows.values())}
        splits = np.array([*rows] * len(splits))
    edges = [0, *(2**n for n in range(4, 16)), max(2**16, int(tokens.max(initial=0)) + 1)]
    return Lengths(
        data=origin["sha256"],
        stats=stats,
        longest=longest,
        rows=len(hashes),
        duplicates=int(len(hashes) - len(np.unique(hashes))),
        edges=edges,
        splits={
            split: _split_lengths(tokens[splits == split], kept, longest, edges)
            for split, kept in rows.items()
        },
    )


def _count_all(path: Path, tokenizer: Path, share: float, workers: int) -> list[Piece]:
    """`count` over the whole file, piece by piece in its order."""
    ranges = pieces(path)
    progress = Progress("counting tokens", path.stat().st_size)
    found = []
    with ProcessPoolExecutor(max(1, min(workers, len(ranges))), mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(count, path, tokenizer, share, *place) for place in ranges]
        for (start, end), job in zip(ranges, jobs, strict=True):
            found.append(job.result())
            progress.add(end - start)
    progress.close()
    return found


def _split_lengths(tokens: "np.ndarray", rows: int, longest: int, edges: Sequence[int]) -> SplitLengths:
    """The figures of a split of `rows` rows, of which those with these tokens were counted."""
    import numpy as np

    n = len(tokens)
    if not n:
        return SplitLengths(rows, 0)
    scale, whole = rows / n, n == rows
    low, middle, high = np.percentile(tokens, [5, 50, 95]).astype(int).tolist()
    long = int((tokens > longest).sum())
    # Agresti and Coull's interval holds for a share near nothing too.
    share = (long + Z**2 / 2) / (n + Z**2)
    return SplitLengths(
        rows=rows,
        counted=n,
        tokens=round(float(tokens.sum()) * scale),
        margin=0 if whole else round(Z * float(tokens.std(ddof=1) if n > 1 else 0) / n**0.5 * rows),
        percentiles=dict(zip(PERCENTILES, (low, middle, high, int(tokens.max())), strict=True)),
        too_long=round(long * scale),
        too_long_margin=0 if whole else round(Z * (share * (1 - share) / (n + Z**2)) ** 0.5 * rows),
        histogram=np.histogram(tokens, edges)[0].tolist(),
    )


def write_tokenizer(corpus: Corpus, given: Path | None, home: Path, out: Path) -> None:
    """Write the tokenizer.json that counts the corpus's tokens to `out`.

    It is the tokenizer of the folder `given`, else the published one, downloaded below `home`, or tiny's own.
    """
    from omr.models import hub

    folder = given
    if folder is None and isinstance(corpus.length_tokenizer, Path):
        folder = corpus.length_tokenizer
    elif folder is None and (pin := corpus.length_tokenizer):
        folder = home / pin.repo.split("/")[-1]
        hub.download(pin, "model", TOKENIZER_FILES, folder, advice="set LENGTH_TOKENIZER= to a local copy")
    lengths.export(prompts.tokenizer(corpus, folder), out)


def cores(workers: int | None) -> int:
    """WORKERS, or the cores that this process may use."""
    return workers or processes.cores()


def cached(path: Path, origin: Mapping[str, Any], stats: str, longest: int) -> Lengths | None:
    """The figures beside the file, if they are of these bytes and as exact as asked for."""
    made = statistics.read(path)
    same = made and (made.data, made.longest) == (origin["sha256"], longest)
    return made if same and made.stats in (stats, "full") else None


# ---- what people read ----


def section(made: Lengths, cut: int | None = None) -> pages.Section:
    """Token lengths as a table and a histogram, for this report and for a run's, which cuts rows at `cut`."""
    counted = {name: split for name, split in made.splits.items() if split.counted}
    rows = [
        [
            *(name, f"{split.rows:,}", _about(split.tokens, split.margin)),
            *(f"{split.percentiles[key]:,}" for key in PERCENTILES),
            _about(split.too_long, split.too_long_margin),
        ]
        for name, split in counted.items()
    ]
    header = ["split", "rows", "tokens", "5%", "median", "95%", "longest", f"over {made.longest:,}"]
    longest = cut or made.longest
    caption = (
        "Rows by tokens of input and output; each bin is twice as long as the one before. Longer rows than"
        f" {longest:,} tokens count in a batch and are not learned from."
    )
    series = {name: split.histogram for name, split in counted.items()}
    rules = [pages.Rule(longest, f"training: {longest:,}")]
    figures = (
        [pages.histogram(series, made.edges, "tokens of a row", "Rows counted", caption, rules)]
        if series
        else []
    )
    how = "every row counted" if made.stats == "full" else "a sample counted, with its 95% interval"
    return pages.Section("Token lengths", how, header, rows, figures)


def _about(number: int, margin: int) -> str:
    return f"{number:,}" + (f" ± {margin:,}" if margin else "")


def meaning(made: Lengths, batch: int, steps: int) -> list[str]:
    """What the figures mean for a training of `steps` steps of `batch` rows, a line each."""
    seen = steps * batch  # rows
    return [
        f"{made.rows:,} rows, {_about(made.tokens, made.margin)} tokens, {made.duplicates:,} duplicates",
        f"{made.too_long:,} rows over {made.longest:,} tokens:"
        " cut and not learned from, yet counted in a batch",
        f"{batch:,} rows a step: an epoch is {made.rows / batch:,.1f} steps, {steps:,} steps are"
        f" {seen / made.rows:,.2f} epochs and {seen * made.tokens / made.rows:,.0f} tokens",
    ]


def write(path: Path, made: Lengths, said: Sequence[str], page: Path, quality: Quality | None = None) -> None:
    """Write the page of an SFT file; `said` is what `meaning` gave, `quality` what QUALITY=1 found."""
    text = f"{path.name}, {human(path.stat().st_size)}. " + ". ".join(said) + "."
    found = sections(quality) if quality else ()
    write_text(page, pages.render(f"Data: {path.stem}", text, [section(made), *found]))
