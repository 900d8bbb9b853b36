#!/usr/bin/env python3
"""Speed and memory of `make data-report QUALITY=1` on generated rows like the published ones.

    .venv/bin/python bench/quality.py [--size 5e8] [--workers 2]

One table, for a sample and for all rows: rows (and MB of text) a second over all workers, rows a second of processor,
and the whole time. Every row has the expected answer in a box: what grading costs
is the corpus's own (how many answers are spelled otherwise), and the evaluation's grader is measured elsewhere.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import corpus

from omr import manifest, recipe
from omr.data import request
from omr.evaluation.problems import Problem, ProblemSet
from omr.reports.quality import measure
from omr.workspace import Workspace

BOTH = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def processor() -> float:
    """Seconds of processor that this process and its ended children have taken."""
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, BOTH))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=float, default=5e8, help="bytes of text")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        root = Path(folder)
        kept = corpus.generate(root / "raw", int(asked.size))
        boxes(root / "raw")
        # The file itself is not read: its manifest says how many rows the round keeps.
        words = {"dataset": "openmathreasoning", "raw": str(root / "raw"), "allow": "rows"}
        wanted = request.request(Workspace(root), **words, workers=asked.workers)
        wanted.output.parent.mkdir(parents=True)
        wanted.output.touch()
        names = {path.name: {} for path in (root / "raw").rglob("*.parquet")}
        splits = {split: {"kept": rows} for split, rows in counts(root / "raw").items()}
        manifest.write(wanted.output, {}, sha256="0", rows=kept, splits=splits, shards=names)
        origin = manifest.read(wanted.output)
        made = corpus.Maker(7)
        made.sentences = corpus.stock(seed=1)  # other texts than the rows', as a benchmark's are
        benchmark = ProblemSet("generated", tuple(Problem("1", made.text(250)) for _ in range(256)))
        columns = ("rows looked at", "rows a second", "of processor", "MB of text", "wall")
        print("\n".join(f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns))))
        for stats in ("sample", "full"):
            begin, before = time.monotonic(), processor()
            found = measure.measure(wanted, origin, stats=stats, benchmark=benchmark, tokenizer=None)
            wall, spent = time.monotonic() - begin, processor() - before
            speed = found.rows_per_second
            looked = next(iter(found.splits["cot"].values())).of
            cells = (f"{stats} ({looked:,} of cot)", f"{speed:,}", f"{kept / spent:,.0f}")
            cells += (f"{speed / kept * asked.size / 1e6:,.0f}", f"{wall:.1f} s")
            print(f"| {' | '.join(cells)} |")


def boxes(folder: Path) -> None:
    """Have the rows' solutions end with an answer."""
    import pyarrow.parquet as pq

    for path in folder.rglob("*.parquet"):
        rows = pq.read_table(path)
        solutions = [
            f"{text}\nJudgment: {answer} \\boxed{{{answer}}}"
            for text, answer in zip(
                rows["generated_solution"].to_pylist(), rows["expected_answer"].to_pylist(), strict=True
            )
        ]
        at = rows.schema.get_field_index("generated_solution")
        pq.write_table(rows.set_column(at, rows.schema.field(at), [solutions]), path, row_group_size=1000)


def counts(folder: Path) -> dict[str, int]:
    """Rows of each split."""
    import pyarrow.parquet as pq

    return {
        split: sum(pq.read_metadata(path).num_rows for path in folder.rglob(f"{split}-*.parquet"))
        for split in recipe.corpus("openmathreasoning").splits
    }


if __name__ == "__main__":
    main()
