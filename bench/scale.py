#!/usr/bin/env python3
"""One hundred nodes on paper: what the recipe costs in bytes, files, hours, saves, and what breaks first.

    .venv/bin/python bench/scale.py        # the tables of docs/scale.md

Pure functions over the recipe's rows. What is published or measured names its source; every other number is an
assumption and says so. `make docs` puts the tables into docs/scale.md.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, erf, exp, log, sqrt
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.measure import table  # noqa: E402
from omr import recipe  # noqa: E402
from omr.cluster import plan  # noqa: E402
from omr.data import scratch  # noqa: E402
from omr.recipe.families import head_width  # noqa: E402
from omr.request import TrainRequest  # noqa: E402
from omr.training.nemo_rl.prepared_data import SHARD  # noqa: E402
from omr.workspace import Workspace  # noqa: E402

# The published corpus at its pinned revision: bytes to download, bytes of text, cot's parquet shards.
DOWNLOAD, TEXT, COT_SHARDS, COT_TEXT = 49.6e9, 114.4e9, 144, 71.6e9
LINES = 1.05  # bytes of SFT lines for each byte of text: keys, escapes, prompts; measured by bench/data.py
# Row lengths: a lognormal of the published mean. Its spread is an assumption; `make data-report` measures yours.
SPREAD = 0.7
# Share of the bf16 peak in published training on H100s: 430 and 380 of 989 TFLOP/s a GPU, without and with 16-fold
# context parallelism (Llama 3, arXiv:2407.21783, table 4).
REACHED = (0.43, 0.38)
# A shared file system that all nodes write at once (bytes/s): "good" and "best" of NVIDIA's DGX SuperPOD H100
# reference architecture (table 6: 7 and 62 GB/s a scalable unit of 32 nodes), for two units.
WRITES = (14e9, 124e9)
SAVE_OVERHEAD = 10  # seconds of a save beside its bytes: plan, metadata, rename; an assumption
METADATA = 50_000  # opens and lookups a second of one metadata server; an assumption
# File calls (stat, open) of one process that imports torch, transformers and TRL from this toolkit's environment:
# `strace -f -c -e trace=%file`, CPython 3.11.
IMPORT_CALLS = 69_700
SAVE_FILES = 2  # .distcp files that each rank writes: Megatron's default of two writers
# Bytes a second at which NeMo-RL's own data set (datasets: load JSON, map, one process) becomes ready; measured on
# 200 MB of bench/corpus.py's rows, one core.
UPSTREAM_READY = 60e6
DATA_SECONDS = 16.1 / 2.1e9  # of `make data`, round 1, for a byte on two cores (docs/data.md)
LIMIT = 4 * 3600  # seconds of a job: NeMo-RL's default deadline of 3 h 45 min is made for it
HOURS_A_DAY = 24
# Interruptions of a node of 8 H100s in a day: 419 unexpected ones in 54 days of 16,384 GPUs (Llama 3, section 3.3.4).
FAILURES = 419 / (54 * 16_384 / 8)
NOWHERE = Workspace(Path("/nonexistent"))  # a plan that finds no data estimates from the published corpus


@dataclass(frozen=True)
class Lengths:
    """Tokens of a row: their mean, and the mean that a token sees (E[l²]/E[l]), which attention costs."""

    mean: float
    weighted: float


def lengths(run: recipe.Run) -> Lengths:
    """Row lengths of a round: the corpus's, or those of at least the filter's tokens."""
    mean = plan.ROW_BYTES / plan.TOKEN_BYTES
    middle, corpus = log(mean) - SPREAD**2 / 2, recipe.CORPORA[run.model.corpus]
    least = max((corpus.min_tokens(split) or 0 for split in run.round.filtered), default=0)
    # Moments of a lognormal above `least`: E[l^k; l >= least] = exp(k·middle + k²·SPREAD²/2) · P(z >= cut - k·SPREAD).
    cut = (log(least) - middle) / SPREAD if least else float("-inf")
    zeroth, first, second = (
        exp(k * middle + (k * SPREAD) ** 2 / 2) * _above(cut - k * SPREAD) for k in range(3)
    )
    return Lengths(first / zeroth, second / first)


def _above(z: float) -> float:
    """The share of a normal distribution above z."""
    return (1 - erf(z / sqrt(2))) / 2


def ranks(model: recipe.Model, nodes: int | None = None) -> float:
    """Data-parallel ranks: copies of the model that share out a batch."""
    return (nodes or model.nodes) * model.gpus / (model.tensor_parallel * model.context_parallel)


def trains_on(model: recipe.Model, nodes: int) -> bool:
    """Whether NeMo-RL trains on so many nodes: the ranks divide the batch (omr/training/nemo_rl/checks.py)."""
    return model.batch % ranks(model, nodes) == 0


def packed_share(run: recipe.Run, nodes: int | None = None) -> float:
    """The share of a step in which ranks have work: packs come in multiples of the ranks, the fullest decides."""
    full = run.model.batch * lengths(run).mean / run.model.sequence_length
    copies = ranks(run.model, nodes)
    return full / (ceil(full / copies) * copies)


def step_seconds(run: recipe.Run, nodes: int | None = None, reached: float = plan.REACHED) -> float:
    """Seconds of a step, at a share of the peak: 6 operations a parameter and token, and causal attention."""
    model, shape, length = run.model, recipe.ARCHITECTURES[run.model.name], lengths(run)
    attention = 6 * shape.layers * shape.heads * head_width(shape) * length.weighted
    operations = model.batch * length.mean * (6 * model.parameters + attention)
    gpus = (nodes or model.nodes) * model.gpus
    return operations / (gpus * plan.PEAK * reached * packed_share(run, nodes))


def numbers(run: recipe.Run) -> plan.Numbers:
    """`make plan`'s numbers of a run at our seconds of a step, in jobs of LIMIT."""
    return plan.numbers(TrainRequest.of(run), NOWHERE, LIMIT, step_seconds(run))


def save_seconds(run: recipe.Run) -> tuple[float, float]:
    """Seconds of a save on a good and on the best file system."""
    good, best = (numbers(run).checkpoint / speed + SAVE_OVERHEAD for speed in WRITES)
    return good, best


def runs() -> list[recipe.Run]:
    """The recipe's runs of real models, round 2 as recommended."""
    rows = [model for model in recipe.MODELS.values() if model.corpus == "openmathreasoning"]
    return [recipe.run(model.name, number) for model in rows for number in model.rounds]


def training() -> str:
    """What each run costs on the recipe's nodes."""
    header = [
        "run",
        "tokens",
        "packs on ranks",
        "s a step",
        "hours",
        "GPU-hours",
        f"jobs of {LIMIT // 3600} h",
    ]
    header += ["checkpoint", "a save", "folder"]
    rows = []
    for run in runs():
        found, share = numbers(run), packed_share(run)
        fast, slow = (found.gpu_hours * plan.REACHED / reached for reached in REACHED)
        good, best = save_seconds(run)
        tokens = run.schedule.steps * run.model.batch * lengths(run).mean
        rows.append(
            [
                f"{run.model.name} round {run.round.number}",
                f"{tokens / 1e9:,.0f} G",
                f"{ranks(run.model):.0f} ranks, {share:.0%}",
                f"{found.step_seconds:.2f}",
                f"{found.hours:,.1f}",
                f"{fast:,.0f} to {slow:,.0f}",
                found.links,
                f"{found.checkpoint / 1e9:,.0f} GB",
                f"{best:.0f} to {good:.0f} s",
                f"{found.disk / 1e12:.2f} TB",
            ]
        )
    return table(header, rows)


def corpus_shards() -> int:
    """Parquet shards of the corpus, about: as large in the other splits as in cot."""
    return round(COT_SHARDS * TEXT / COT_TEXT)


def bytes_moved() -> str:
    """Bytes read and written by each stage of round 1, in GB, and the files that it makes."""
    sft, gb = TEXT * LINES, 1e9
    shards, parts = corpus_shards(), min(scratch.PARTS, scratch.how_many(int(TEXT)))
    rows = [
        ["download", "all", f"{DOWNLOAD / gb:,.0f} (network)", f"{DOWNLOAD / gb:,.0f}", f"{shards:,}"],
        ["data: format", "all", f"{2 * DOWNLOAD / gb:,.0f}", f"{sft / gb:,.0f}", f"{shards * (parts + 1):,}"],
        ["data: mix", "all", f"{sft / gb:,.0f}", f"{sft / gb:,.0f}", "2"],
        ["prepare", "all", f"{2 * sft / gb:,.0f}", f"{TEXT / gb:,.0f}", f"{ceil(sft / SHARD)}"],
    ]
    for run in runs():
        if run.round.number > 1:
            continue
        name, weights, found = run.model.name, 2 * run.model.parameters, numbers(run)
        saves, averaged = len(run.schedule.averaged) + found.links - 1, len(run.schedule.averaged)
        gpus = run.model.nodes * run.model.gpus
        read = (found.links - 1) * found.checkpoint + weights + TEXT * found.steps * run.model.batch / _rows()
        rows += [
            ["model", name, f"{weights / gb:,.0f} (network)", f"{weights / gb:,.0f}", "about 10"],
            [
                "train",
                name,
                f"{read / gb:,.0f}",
                f"{saves * found.checkpoint / gb:,.0f}",
                f"{saves * SAVE_FILES * gpus:,}",
            ],
            [
                "convert",
                name,
                f"{averaged * weights / gb:,.0f}",
                f"{averaged * weights / gb:,.0f}",
                "about 50",
            ],
            ["average", name, f"{averaged * weights / gb:,.0f}", f"{weights / gb:,.0f}", "about 10"],
        ]
    return table(["stage", "model", "reads GB", "writes GB", "files made"], rows)


def _rows() -> int:
    return sum(recipe.CORPORA["openmathreasoning"].rows.values())


def metadata() -> str:
    """Calls that reach the metadata server of a shared file system, and what they take if nothing else runs."""
    run = recipe.run("32b")
    gpus = run.model.nodes * run.model.gpus
    files = SAVE_FILES * gpus
    kept = len(run.schedule.averaged) + 1
    counts = [
        ("a start, the environment on the shared file system", gpus * IMPORT_CALLS),
        ("a start, in a container (one .sqsh file a node)", run.model.nodes * 2),
        ("a save: create, write, close, seal", 4 * files),
        (f"a link's proof of its {kept} checkpoints: stat, and both ends of each file", 3 * kept * files),
        ("make data: scratch of all shards, made, read, removed", 3 * corpus_shards() * (scratch.PARTS + 1)),
        ("an hour of a link's watch: five looks a second", 2 * 5 * 3600),
    ]
    return table(
        ["what", "calls", f"at {METADATA:,} a second"],
        [[what, f"{calls:,}", _time(calls / METADATA)] for what, calls in counts],
    )


def queue() -> str:
    """Jobs that a run puts into the queue, and what it asks of the controller."""
    rows = []
    for run in runs():
        found = numbers(run)
        tasks = len(run.schedule.averaged)
        # prepare, the links, the conversion's array, average, evaluation.
        jobs, minutes = 1 + found.links + 1 + 1 + 1, found.hours * 60
        rows.append(
            [
                f"{run.model.name} round {run.round.number}",
                f"{jobs} ({tasks} tasks in an array)",
                f"{found.links} of {run.model.nodes} nodes, one at a time",
                f"{minutes:,.0f}",
                f"{found.hours * run.model.nodes:,.0f}",
            ]
        )
    return table(["run", "jobs", "links", "questions to slurmctld", "node-hours"], rows)


def growth() -> str:
    """What has a limit, and where ten times the corpus or the nodes put it; what is beyond it in bold."""
    small, middle, large = (recipe.run(name) for name in ("1.5b", "7b", "32b"))
    sft, nodes = TEXT * LINES, large.model.nodes
    between = large.schedule.save_period * step_seconds(large) / 3600

    def row(what: str, limit: str, shown: Sequence[str], beyond: Sequence[bool]) -> list[str]:
        return [
            what,
            limit,
            *(f"**{text}**" if bad else text for text, bad in zip(shown, beyond, strict=True)),
        ]

    def ranks_row(run: recipe.Run) -> list[str]:
        sizes = (nodes, nodes, 10 * nodes)
        shown = [f"{ranks(run.model, n):,.0f} ({packed_share(run, n):.0%})" for n in sizes]
        refused = [not trains_on(run.model, n) for n in sizes]
        what = f"ranks of {run.model.name}, and the share of a step with work"
        return row(what, f"divide a batch of {run.model.batch:,}", shown, refused)

    def hours_row(what: str, seconds: float, limit: float, factors: Sequence[float]) -> list[str]:
        times = [seconds * factor for factor in factors]
        return row(what, f"under {_time(limit)}", [_time(t) for t in times], [t > limit for t in times])

    apart = [HOURS_A_DAY / (FAILURES * n) for n in (nodes, nodes, 10 * nodes)]
    imports = large.model.nodes * large.model.gpus * IMPORT_CALLS / METADATA
    rows = [
        ranks_row(small),
        ranks_row(middle),
        ranks_row(large),
        row(
            "hours between two failures of a node",
            f"over {between:.0f}: 32b's save period",
            [f"{hours:,.0f}" for hours in apart],
            [hours < between for hours in apart],
        ),
        hours_row("imports of a start without a container", imports, plan.START, (1, 1, 10)),
        hours_row("NeMo-RL's own data set at each start", sft / UPSTREAM_READY, LIMIT, (1, 10, 1)),
        hours_row("make data on one machine of two cores", sft * DATA_SECONDS, LIMIT * 6, (1, 10, 1)),
        row(
            "room for raw, lines and prepared data",
            "the quota",
            [f"{(DOWNLOAD + sft + TEXT) * n / 1e12:.1f} TB" for n in (1, 10, 1)],
            [False] * 3,
        ),
    ]
    return table(["what", "limit", "64 nodes", "ten times the corpus", "ten times the nodes"], rows)


def _time(seconds: float) -> str:
    """`40 ms`, `12 s`, `12 min`, `3.2 h`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


TABLES = {"training": training, "bytes": bytes_moved, "metadata": metadata, "queue": queue, "growth": growth}

if __name__ == "__main__":
    print("\n\n".join(make() for make in TABLES.values()))
