"""What an SFT file means for training: token lengths, rows too long, duplicates, steps and epochs.

Every line is read; every row's tokens are counted, or with `sample` those of some 20,000 rows chosen by
the hash of their bytes, with the 95% interval that this leaves. Tokens are those of `input` plus
`output`, counted apart as training joins them.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from omr.data import lengths, prompts
from omr.data.request import TOKENIZER_FILES
from omr.errors import OmrError
from omr.files import human, read_json, write_json, write_text
from omr.progress import Progress
from omr.recipe import Corpus
from omr.reports import pages

if TYPE_CHECKING:
    import numpy as np

Download = Callable[..., dict]
SAMPLE = 20_000  # rows: an interval of about half a percent of the mean
PIECE = 64 << 20  # bytes of the file that a worker takes at a time
Z = 1.96  # standard errors of a 95% interval


@dataclass(frozen=True)
class Piece:
    """Some lines of the file: per counted row its split and tokens, per row the hash of its line."""

    splits: list[str]
    tokens: "np.ndarray"
    hashes: "np.ndarray"


def pieces(path: Path) -> list[tuple[int, int]]:
    """Byte ranges that cut the file; a line belongs to the range that its first byte is in."""
    size = path.stat().st_size
    return [(start, min(start + PIECE, size)) for start in range(0, size, PIECE)]


def lines(path: Path, start: int, end: int) -> Iterator[bytes]:
    """The lines whose first byte is in [start, end)."""
    with path.open("rb") as handle:
        if start:
            handle.seek(start - 1)
            handle.readline()
        while handle.tell() < end and (line := handle.readline()):
            yield line


def count(path: Path, tokenizer: Path, share: float, start: int, end: int) -> Piece:
    """Count a piece of the file; of its rows, the `share` whose hash is low enough."""
    import numpy as np

    counter = lengths.Counter(tokenizer)
    hashes, splits, texts = [], [], []
    for line in lines(path, start, end):
        digest = int.from_bytes(hashlib.blake2b(line, digest_size=8).digest(), "big")
        hashes.append(digest)
        if digest < share * 2**64:
            try:
                row = json.loads(line)
                splits.append(row["inference_mode"])
                texts += [row["input"], row["output"]]
            except (ValueError, KeyError, TypeError):
                raise OmrError(f"{path}: a line near byte {start} is no SFT row; make data FORCE=1") from None
    tokens = counter.count(texts).reshape(-1, 2).sum(axis=1) if texts else np.zeros(0, np.int64)
    return Piece(splits, tokens, np.array(hashes, np.uint64))


def measure(path: Path, origin: dict, tokenizer: Path, *, stats: str, workers: int, longest: int) -> dict:
    """Everything that the report says of a finished SFT file, as plain values; `longest` is in tokens."""
    import numpy as np

    share = min(1.0, SAMPLE / max(1, origin["rows"])) if stats == "sample" else 1.0
    ranges = pieces(path)
    progress = Progress("counting tokens", origin["size"])
    progress.start(0)
    found = []
    with ProcessPoolExecutor(max(1, min(workers, len(ranges))), mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(count, path, tokenizer, share, *place) for place in ranges]
        for (start, end), job in zip(ranges, jobs, strict=True):
            found.append(job.result())
            progress.add(end - start)
    progress.close()
    splits = np.array([split for piece in found for split in piece.splits])
    tokens = np.concatenate([piece.tokens for piece in found])
    hashes = np.concatenate([piece.hashes for piece in found])
    if len(hashes) != origin["rows"]:
        raise OmrError(
            f"{path}: has {len(hashes):,} rows, its manifest says {origin['rows']:,}; make data FORCE=1"
        )
    edges = [0, *(2**n for n in range(4, 16)), max(2**16, int(tokens.max(initial=0)) + 1)]
    kept = {split: facts["kept"] for split, facts in origin["splits"].items()}
    return {
        "data": origin["sha256"],
        "stats": stats,
        "longest": longest,
        "rows": len(hashes),
        "duplicates": int(len(hashes) - len(np.unique(hashes))),
        "edges": edges,
        "splits": {
            split: _numbers(tokens[splits == split], rows, longest, edges) for split, rows in kept.items()
        },
    }


def _numbers(tokens: "np.ndarray", rows: int, longest: int, edges: Sequence[int]) -> dict:
    """A split's figures, scaled to all its rows where some were counted; `margin` halves a 95% interval."""
    import numpy as np

    n = len(tokens)
    if not n:
        return {"rows": rows, "counted": 0, "tokens": 0, "margin": 0, "too_long": 0, "histogram": []}
    scale, whole = rows / n, n == rows
    low, middle, high = np.percentile(tokens, [5, 50, 95]).astype(int).tolist()
    long = int((tokens > longest).sum())
    # Agresti and Coull's interval holds for a share near nothing too.
    share = (long + Z**2 / 2) / (n + Z**2)
    return {
        "rows": rows,
        "counted": n,
        "tokens": round(float(tokens.sum()) * scale),
        "margin": 0 if whole else round(Z * float(tokens.std(ddof=1) if n > 1 else 0) / n**0.5 * rows),
        "percentiles": {"5": low, "50": middle, "95": high, "100": int(tokens.max())},
        "too_long": round(long * scale),
        "too_long_margin": 0 if whole else round(Z * (share * (1 - share) / (n + Z**2)) ** 0.5 * rows),
        "histogram": np.histogram(tokens, edges)[0].tolist(),
    }


def cached(path: Path, origin: dict, stats: str, longest: int) -> dict | None:
    """The figures that stand beside the file, if they are of these bytes and as exact as asked for."""
    place = beside(path)
    if not place.exists():
        return None
    made = read_json(place)
    same = (made["data"], made["longest"]) == (origin["sha256"], longest)
    return made if same and (made["stats"] in (stats, "full")) else None


def beside(path: Path) -> Path:
    """Where a file's figures stand."""
    return path.with_suffix(".lengths.json")


def section(made: dict) -> pages.Section:
    """Token lengths as a table and a histogram, for this report and for a run's."""
    rows = []
    for split, facts in made["splits"].items():
        if not facts["counted"]:
            continue
        spread = facts["percentiles"]
        rows.append(
            [
                *(split, f"{facts['rows']:,}", _about(facts["tokens"], facts["margin"])),
                *(f"{spread[key]:,}" for key in ("5", "50", "95", "100")),
                _about(facts["too_long"], facts["too_long_margin"]),
            ]
        )
    header = ["split", "rows", "tokens", "5%", "median", "95%", "longest", f"over {made['longest']:,}"]
    series = {split: facts["histogram"] for split, facts in made["splits"].items() if facts["counted"]}
    caption = "Rows by tokens of input and output; each step doubles the length"
    edges = [f"{edge:,}" for edge in made["edges"]]
    figure = pages.bars(series, edges, "tokens", "rows counted", caption)
    how = "every row counted" if made["stats"] == "full" else "a sample counted, with its 95% interval"
    return pages.Section("Token lengths", how, header, rows, [figure] if series else [])


def _about(number: int, margin: int) -> str:
    return f"{number:,}" + (f" ± {margin:,}" if margin else "")


def meaning(made: dict, batch: int, steps: int) -> list[str]:
    """What the figures mean for a training of `steps` steps of `batch` rows, a line each."""
    tokens = sum(facts["tokens"] for facts in made["splits"].values())
    margin = sum(facts["margin"] ** 2 for facts in made["splits"].values()) ** 0.5
    long = sum(facts["too_long"] for facts in made["splits"].values())
    rows = made["rows"]
    return [
        f"{rows:,} rows, {_about(tokens, round(margin))} tokens, {made['duplicates']:,} duplicates",
        f"{long:,} rows over {made['longest']:,} tokens: cut and not learned from, yet counted in a batch",
        f"{batch:,} rows a step: an epoch is {rows / batch:,.1f} steps, {steps:,} steps are"
        f" {steps * batch / rows:,.2f} epochs and {steps * batch * tokens / rows:,.0f} tokens",
    ]


def write(path: Path, made: dict, said: list[str], page: Path) -> None:
    """The page beside the file."""
    text = f"{path.name}, {human(path.stat().st_size)}. " + ". ".join(said) + "."
    write_text(page, pages.render(f"Data: {path.stem}", text, [section(made)]))


def tokenizer(corpus: Corpus, folder: Path | None, home: Path, download: Download, out: Path) -> None:
    """Write the engine of the tokenizer that counts: the one of `folder`, the published one, or tiny's."""
    if folder is None and (pin := corpus.length_tokenizer):
        folder = home / pin.repo.split("/")[-1]
        download(pin, "model", TOKENIZER_FILES, folder, advice="set LENGTH_TOKENIZER= to a local copy")
    lengths.export(prompts.tokenizer(corpus, folder), out)


def keep(path: Path, made: dict) -> None:
    """Write the figures beside the file."""
    write_json(beside(path), made)


def cores(workers: int | None) -> int:
    """WORKERS, or the cores that this process may use."""
    return workers or len(os.sched_getaffinity(0))
