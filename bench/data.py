#!/usr/bin/env python3
"""How fast and how small `make data` is, beside the published way and the machine's limit.

    docker/venv dev && make nemo                        # datasets for the published way, nemo-skills for both
    .venv/bin/python bench/data.py [--size 2e9]         # the table of docs/data.md
    .venv/bin/python bench/data.py --scale 4            # memory and time at 1, 2 and 4 times the rows, ours alone
    git worktree add ../before 89d02c5                  # then beside that commit, in either form:
    .venv/bin/python bench/data.py --against ../before

The limit is what no way can avoid: decode the parquet on all cores, write and sync as many bytes as the
output has. All of it runs in one campaign, in turns, so that a stall of the machine meets every row; the
table has medians. Memory is the process tree's proportional set size, sampled in a turn before the timed ones:
looking at it takes time from what is looked at.
"""

import argparse
import importlib.util
import itertools
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench import corpus  # noqa: E402
from bench.measure import Case, Place  # noqa: E402
from bench.timed import timed  # noqa: E402


def _decode(path: Path) -> int:
    import pyarrow.parquet as pq

    total = 0
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(1000, use_threads=False):
            total += len(batch)
    return total


def limit(raw: Path, size: int, workers: int, scratch: Path) -> tuple[float, float, float]:
    """Seconds to decode the shards on all cores, to write `size` bytes, and to write and sync them."""
    files = sorted(raw.rglob("*.parquet"), key=lambda path: -path.stat().st_size)
    block = os.urandom(1 << 20) * 8
    os.sync()
    time.sleep(1)
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(abs, range(workers)))
        start = time.perf_counter()
        list(pool.map(_decode, files))
        decode = time.perf_counter() - start
    start = time.perf_counter()
    with (scratch / "plain").open("wb", buffering=0) as handle:
        left = size
        while left > 0:
            left -= handle.write(block[: min(left, len(block))])
        written = time.perf_counter() - start
        os.fsync(handle.fileno())
    synced = time.perf_counter() - start
    (scratch / "plain").unlink()
    return decode, written, synced


def ours(root: Path, raw: Path, tokenizer: Path, words: dict[str, str | int]) -> list[str | Path]:
    """The command line of the data stage of a checkout."""
    options = {"RAW": raw, "TOKENIZER": tokenizer, "LENGTH_TOKENIZER": tokenizer, **words}
    return [
        sys.executable,
        root / "bin" / "data.py",
        *(w for k, v in options.items() for w in (f"--{k.lower()}", str(v))),
    ]


def run_ours(
    raw: Path, scratch: Path, tokenizer: Path, words: dict[str, str | int], watch: bool, root: Path = ROOT
) -> tuple[float, int, dict]:
    """Seconds, peak bytes and the manifest of one run of a checkout in a workspace of its own."""
    workspace, root = scratch / "workspace", root.resolve()
    shutil.rmtree(workspace, ignore_errors=True)
    # ALLOW by the environment: an older checkout does not know the option.
    environ = {"WORKSPACE": str(workspace), "PYTHONPATH": str(root), "ALLOW": "rows"}
    seconds, peak = timed(ours(root, raw, tokenizer, words), environ, watch)
    manifest = json.loads(next(workspace.glob("data/*.manifest.json")).read_text())
    shutil.rmtree(workspace)
    return seconds, peak, manifest


def run_seed(
    raw: Path, scratch: Path, tokenizer: Path, round_key: str, workers: int, watch: bool
) -> tuple[float, int]:
    """Seconds and peak bytes of the published way, with an empty cache."""
    out = scratch / "seed"
    shutil.rmtree(out, ignore_errors=True)
    words = [
        sys.executable,
        ROOT / "bench" / "seeds_way.py",
        raw,
        out,
        round_key,
        tokenizer,
        tokenizer,
        str(workers),
    ]
    result = timed(words, {"HF_DATASETS_CACHE": str(out / "cache"), "HF_HUB_OFFLINE": "1"}, watch)
    shutil.rmtree(out)
    return result


WORDS = {"round1": {"ROUND": 1}, "round2": {"ROUND": 2}, "round2-paper": {"ROUND": 2, "VARIANT": "paper"}}
ROW_BYTES = 23_500  # of generated text for each raw row


def cases(place: Place) -> Iterator[Case]:
    """Both rounds at 1, 2 and 4 times the rows, and once with the raw files out of the page cache."""
    if importlib.util.find_spec("nemo_skills") is None:
        why = "the real corpus's prompts need nemo-skills: make nemo"
        yield Case("make data, beside the published way", "s", {}, why)
        return
    tokenizer = corpus.tokenizer(place.scratch / "data-tokenizer")
    workers = len(os.sched_getaffinity(0))
    for times in (1, 2, 4):
        raw = place.scratch / f"rows-{times}"
        rows = corpus.generate(raw, place.rows * times * ROW_BYTES)
        for key, cold in itertools.product(("round1", "round2"), (False, True) if times == 1 else (False,)):
            yield _case(place.scratch, raw, rows, tokenizer, key, workers, cold)
        shutil.rmtree(raw)


def _case(scratch: Path, raw: Path, rows: int, tokenizer: Path, key: str, workers: int, cold: bool) -> Case:
    """A round of some rows, beside the published way and the machine's limit."""
    size = run_ours(raw, scratch, tokenizer, WORDS[key], False)[2]["size"]
    ways = {
        "make data": lambda: run_ours(raw, scratch, tokenizer, WORDS[key], False)[0],
        "the published way": lambda: run_seed(raw, scratch, tokenizer, key, workers, False)[0],
        "the machine's limit": lambda: _decoded_and_synced(limit(raw, size, workers, scratch)),
    }
    if cold:
        ways = {name: _after(lambda: leave_cache(raw), way) for name, way in ways.items()}
    what = f"data, {key}, {rows:,} rows" + (", raw files out of the page cache" if cold else "")
    return Case(what, "s", ways, "decode the parquet, write and sync as much: the limit")


def _decoded_and_synced(found: tuple[float, float, float]) -> float:
    decode, _, synced = found
    return decode + synced


def _after(first: Callable[[], None], then: Callable[[], float]) -> Callable[[], float]:
    def way() -> float:
        first()
        return then()

    return way


def leave_cache(folder: Path) -> None:
    """Ask the kernel to forget a folder's files; it does where the file system has them elsewhere."""
    os.sync()
    for path in folder.rglob("*.parquet"):
        with path.open("rb") as handle:
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    """Generate, measure, print."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--size", type=float, default=2e9, help="bytes of text")
    options.add_argument("--repeat", type=int, default=3)
    options.add_argument("--folder", type=Path, help="where to keep the generated rows")
    options.add_argument("--scale", type=int, help="ours alone at 1, 2, … times --size")
    options.add_argument("--no-seed", action="store_true", help="leave the published way out")
    options.add_argument("--against", type=Path, help="another checkout, measured in the same turns")
    options.add_argument("--rounds", default="round1,round2")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
        scratch = Path(scratch)
        tokenizer = corpus.tokenizer(scratch / "tokenizer")
        if asked.scale:
            scale(asked, scratch, tokenizer)
        else:
            table(asked, scratch, tokenizer)


def rows_of(asked: argparse.Namespace, scratch: Path, size: float) -> Path:
    """The generated rows of a size, made once per folder."""
    raw = (asked.folder or scratch) / f"rows-{size:.0e}"
    if not raw.exists():
        aside = raw.with_name("making")
        shutil.rmtree(aside, ignore_errors=True)
        corpus.generate(aside, int(size))
        aside.rename(raw)
    return raw


def table(asked: argparse.Namespace, scratch: Path, tokenizer: Path) -> None:
    """The campaign: the limit, ours, the published way, in turns."""
    raw, workers = rows_of(asked, scratch, asked.size), len(os.sched_getaffinity(0))
    print(
        f"| round | way | seconds (median of {asked.repeat}) | times the limit | times the published way | peak PSS |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for key in asked.rounds.split(","):
        seconds: dict[str, list[float]] = {}
        peaks: dict[str, int] = {}
        _, peaks["ours"], _ = run_ours(raw, scratch, tokenizer, WORDS[key], True)
        if asked.against:
            _, peaks["against"], _ = run_ours(raw, scratch, tokenizer, WORDS[key], True, asked.against)
        if not asked.no_seed:
            _, peaks["published"] = run_seed(raw, scratch, tokenizer, key, workers, True)
        for _ in range(asked.repeat):
            took, _, made = run_ours(raw, scratch, tokenizer, WORDS[key], False)
            seconds.setdefault("ours", []).append(took)
            if asked.against:
                took, _, other = run_ours(raw, scratch, tokenizer, WORDS[key], False, asked.against)
                seconds.setdefault("against", []).append(took)
                assert other["sha256"] == made["sha256"], f"{asked.against} makes other bytes"
            decode, written, synced = limit(raw, made["size"], workers, scratch)
            for name, value in (
                ("decode", decode),
                ("write", written),
                ("sync", synced),
                ("limit", decode + synced),
            ):
                seconds.setdefault(name, []).append(value)
            if not asked.no_seed:
                took, _ = run_seed(raw, scratch, tokenizer, key, workers, False)
                seconds.setdefault("published", []).append(took)
            load = os.getloadavg()[0]
            print(
                f"<!-- {key}: { ({k: round(v[-1], 2) for k, v in seconds.items()}) }, load {load:.1f} -->",
                file=sys.stderr,
            )
        middle = {name: statistics.median(values) for name, values in seconds.items()}
        rows = made["rows"], sum(split["read"] for split in made["splits"].values()), made["size"] / 1e9
        print(
            f"<!-- {key}: {rows[0]:,} of {rows[1]:,} rows, {rows[2]:.2f} GB out, sha256 {made['sha256']}; decode {middle['decode']:.1f} s,"
            f" write {middle['write']:.1f} s, with sync {middle['sync']:.1f} s -->"
        )
        for name, label in (
            ("limit", "the machine's limit"),
            ("ours", "make data"),
            ("against", f"make data in {asked.against}"),
            ("published", "the published way"),
        ):
            if name in middle:
                limits = f"{middle[name] / middle['limit']:.2f}"
                faster = f"{middle['published'] / middle[name]:.1f}" if "published" in middle else ""
                peak = f"{peaks[name] / 1e6:.0f} MB" if name in peaks else ""
                print(f"| {key} | {label} | {middle[name]:.1f} | {limits} | {faster} | {peak} |")


def scale(asked: argparse.Namespace, scratch: Path, tokenizer: Path) -> None:
    """Ours at growing sizes, and another checkout's beside it."""
    print("| times the rows | rows read | output | way | seconds | seconds a GB | peak PSS |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    ways = {"make data": ROOT} | ({f"in {asked.against}": asked.against} if asked.against else {})
    cases = [(2**n, way) for n in range(asked.scale.bit_length()) for way in ways]
    results: dict[tuple[int, str], list] = {case: [] for case in cases}
    peaks = {}
    for turn in range(asked.repeat + 1):
        for times, way in cases:
            raw = rows_of(asked, scratch, asked.size * times)
            run = run_ours(raw, scratch, tokenizer, {"ROUND": 1}, not turn, ways[way])
            if not turn:
                peaks[times, way] = run[1]
                continue
            results[times, way].append(run)
            print(
                f"<!-- {times}, {way}: {run[0]:.1f} s, sha256 {run[2]['sha256'][:12]},"
                f" load {os.getloadavg()[0]:.1f} -->",
                file=sys.stderr,
            )
    for (times, way), runs in results.items():
        made, seconds = runs[0][2], statistics.median(run[0] for run in runs)
        read = sum(split["read"] for split in made["splits"].values())
        print(
            f"| {times} | {read:,} | {made['size'] / 1e9:.2f} GB | {way} | {seconds:.1f} |"
            f" {seconds / made['size'] * 1e9:.2f} | {peaks[times, way] / 1e6:.0f} MB |"
        )


if __name__ == "__main__":
    main()
