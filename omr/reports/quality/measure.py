"""Over all shards: scan them in processes, grade what is not plainly right, compare the rows of each problem.

What is kept of a row until its problem is whole goes to the disk, in buckets by problem, so that memory does
not grow with the corpus: 5.5 million rows are 0.5 GB there, of which a bucket at a time is read.
"""

import hashlib
import heapq
import itertools
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omr import files
from omr.data import corpus, formatting, process_pool
from omr.data.corpus import PlannedShard
from omr.data.held_out import choice
from omr.data.quality import groups, lists, text
from omr.data.quality.overlap import Benchmark
from omr.data.request import DataRequest
from omr.errors import RequestError
from omr.evaluation import benchmarks
from omr.evaluation.grading.pool import Grader
from omr.evaluation.grading.rules import Outcome, Verdict
from omr.evaluation.problems import ProblemSet
from omr.progress import Progress
from omr.recipe import Run
from omr.reports.quality import found
from omr.reports.quality.found import ALL_ROWS, FINDINGS, Overlap, Quality, Share
from omr.reports.quality.scan import Plan, Scan, scan
from omr.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

SAMPLE = 20_000  # rows: a finding of 1% of them is known to 0.2% or so
BUCKETS = 64
WORST = 20  # overlaps that are shown
ANSWER = "expected_answer"
LONGEST_SHOWN = 300  # characters of a problem


@dataclass
class _Split:
    """What is known of a split so far."""

    rows: int = 0
    looked_at: int = 0
    problems: int = 0
    found: dict[str, list[tuple[str, int]]] = field(default_factory=dict)  # finding -> (shard, row)

    def add(self, finding: str, shard: str, rows: Sequence[int]) -> None:
        """Rows of a shard have a finding."""
        self.found.setdefault(finding, []).extend((shard, row) for row in rows)


def problems(run: Run, workspace: Workspace, name: str | None, file: str | None) -> ProblemSet | str:
    """The benchmark's problems, or in a few words why none are looked for: those of the recipe are not there.

    One that the user names by BENCHMARK or PROBLEMS has to be there: a RequestError says what is missing.
    """
    given = Path(file).expanduser().absolute() if file else None
    try:
        return benchmarks.load(run, name, given, workspace.benchmarks)
    except RequestError as error:
        if name or file:
            raise
        return f"not looked for ({error})"


def finished(
    request: DataRequest,
    origin: Mapping[str, Any],
    stats: str,
    benchmark: ProblemSet | str,
    tokenizer: Path | None,
    force: bool = False,
) -> Quality:
    """What `measure` found before of these bytes, as exact as it is asked for; else it measures now."""
    made = None if force else found.of(request.output, origin)
    lists_there = all(found.list_of(request.output, finding).exists() for finding in FINDINGS)
    if made and made.stats in (stats, "full") and made.benchmark == _source(benchmark) and lists_there:
        return made
    made = measure(request, origin, stats=stats, benchmark=benchmark, tokenizer=tokenizer)
    found.write(request.output, made)
    return made


def _source(benchmark: ProblemSet | str) -> str:
    """What was looked for, in a few words."""
    if isinstance(benchmark, str):
        return benchmark
    texts = json.dumps([problem.problem for problem in benchmark.problems])
    digest = hashlib.sha256(texts.encode()).hexdigest()[:8]  # of a file that was edited since it is another
    return f"{benchmark.source}, {len(benchmark.problems):,} problems, {digest}"


def measure(
    request: DataRequest,
    origin: Mapping[str, Any],
    *,
    stats: str,
    benchmark: ProblemSet | str,
    tokenizer: Path | None,
) -> Quality:
    """Measure the rows of an SFT file in the parquet that it was made from, and write the lists of rows.

    `origin` is the file's manifest, `stats` full or sample, `benchmark` the problems to look for, or why
    there are none, `tokenizer` the one of the length filter where the round has that. A RequestError where
    the parquet is not there or gives other rows than the file has.
    """
    asked = benchmark.problems if isinstance(benchmark, ProblemSet) else ()
    looked_for = Benchmark(list(dict.fromkeys(problem.problem for problem in asked if problem.problem)))
    shards = _shards(request, origin)
    plan = Plan(
        job=_job(request, tokenizer),
        share=min(1.0, SAMPLE / max(1, origin["rows"])) if stats == "sample" else 1.0,
        benchmark=looked_for if looked_for.problems else None,
        answer=ANSWER if ANSWER in request.corpus.columns.names else None,
    )
    began = time.monotonic()
    files.need_space(request.output.parent, origin["rows"] * groups.record().itemsize, "comparing rows")
    with (
        tempfile.TemporaryDirectory(prefix=".quality-", dir=request.output.parent) as work,
        Grader() as grader,
    ):
        whole = _Whole(shards, Path(work), grader)
        for number, made in _scanned(request, plan, shards):
            whole.add(number, made, looked_for)
        seconds = time.monotonic() - began
        whole.grade()
        whole.compare()
    for split, facts in origin["splits"].items():
        # What VALIDATION took or refused of the rows that the round keeps.
        odd = sum(n for reason, n in facts["rejected"].items() if reason.startswith(choice.ODD))
        rows = facts["kept"] + facts.get("held_out", 0) + odd
        if whole.splits[split].rows != rows:
            raise RequestError(
                f"{request.folder}: gives {whole.splits[split].rows:,} rows of {split},"
                f" {request.output.name} has {rows:,}; give the words that it was made with,"
                " DROP too, or make data FORCE=1"
            )
    whole.write(request.output)
    read = sum(split.rows for split in whole.splits.values())
    shares = {name: split_shares(split, stats == "full") for name, split in whole.splits.items()}
    speed = round(read / max(seconds, 1e-9))
    return Quality(origin["sha256"], stats, _source(benchmark), speed, shares, whole.worst())


def split_shares(split: _Split, full: bool) -> dict[str, Share]:
    """How many rows of a split have each finding."""
    shares = {}
    for finding in FINDINGS:
        rows = len(split.found.get(finding, ()))
        if finding in ALL_ROWS or full:
            shares[finding] = Share(rows, split.rows, split.problems, True)
        else:
            shares[finding] = Share(rows, split.looked_at, split.problems, False)
    return shares


def _shards(request: DataRequest, origin: Mapping[str, Any]) -> list[PlannedShard]:
    """The shards that the file was made from, as they are now."""
    try:
        there = corpus.shards(request.folder, request.modes, bool(request.limit), request.remedy)
    except RequestError as error:
        raise RequestError(f"{error} (QUALITY=1 reads the raw rows)") from None
    there = [shard for shard in there if shard.name in origin["shards"]]
    columns = request.corpus.columns
    return corpus.planned(there, columns, request.limit, request.skip, None, request.remedy)


def _job(request: DataRequest, tokenizer: Path | None) -> formatting.Job:
    """Which rows the round keeps; nothing is written."""
    return formatting.Job(
        *(request.corpus, request.round, request.seed),
        *(1, 0, request.work, request.skip, {}),
        tokenizer=tokenizer if request.counts_tokens else None,
        bearable=sum(request.corpus.rows.values()) or 10**9,
        remedy=request.remedy,
        drop=request.dropped,
    )


def _scanned(request: DataRequest, plan: Plan, shards: list[PlannedShard]) -> Iterator[tuple[int, Scan]]:
    """The shards' scans as they come, each with the shard's number; some shards are under way at a time."""
    text.compiled()  # before the processes are forked
    todo = sorted(enumerate(shards), key=lambda pair: -pair[1].size)
    progress = Progress("looking at rows", sum(shard.size for shard in shards))
    with process_pool.workers(request.means.workers) as workers:
        waiting: dict[Future[Scan], int] = {}
        rest = iter(todo)
        while True:
            for number, shard in itertools.islice(rest, 2 * request.means.workers - len(waiting)):
                waiting[workers.submit(scan, plan, shard, number)] = number
            if not waiting:
                break
            for future in wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED).done:
                number = waiting.pop(future)
                yield number, future.result()
                progress.add(shards[number].size)
            progress.add(0)
    progress.close()


class _Whole:
    """What all scans come to."""

    def __init__(self, shards: list[PlannedShard], work: Path, grader: Grader) -> None:
        self.shards, self.work, self.grader = shards, work, grader
        self.splits = {shard.split: _Split() for shard in shards}
        self.answers: dict[int, str] = {}  # hash -> text; as many as the corpus has different answers
        self.waiting: list[tuple[int, int, Future[Verdict]]] = []  # shard, row, verdict
        self.overlaps: list[tuple[float, float, Overlap]] = []  # a heap of the worst

    def add(self, number: int, made: Scan, benchmark: Benchmark) -> None:
        """The scan of a shard."""
        shard = self.shards[number]
        split = self.splits[shard.split]
        split.rows += made.rows
        split.looked_at += made.rows_looked_at
        for finding, rows in made.found.items():
            split.add(finding, shard.name, rows)
        self.answers.update(made.answers)
        for row, pair, problem in made.overlaps:
            texts = (problem[:LONGEST_SHOWN], benchmark.problems[pair.known][:LONGEST_SHOWN])
            shares = (round(float(pair.of_row), 3), round(float(pair.of_known), 3))
            one = Overlap(shard.split, shard.name, row, *shares, *texts)
            heapq.heappush(self.overlaps, (pair.worst, float(pair.of_row + pair.of_known), one))
            if len(self.overlaps) > WORST:
                heapq.heappop(self.overlaps)
        for row, given, expected in made.to_grade:
            self.waiting.append((number, row, self.grader.submit(given, expected)))
        self._settle([entry for entry in self.waiting if entry[2].done()])
        self.waiting = [entry for entry in self.waiting if not entry[2].done()]
        buckets = made.records["problem"] % BUCKETS
        for bucket in range(BUCKETS):
            with (self.work / str(bucket)).open("ab") as out:
                made.records[buckets == bucket].tofile(out)

    def grade(self) -> None:
        """Wait for the verdicts that are not there yet."""
        self._settle(self.waiting)
        self.waiting = []

    def _settle(self, graded: list[tuple[int, int, Future[Verdict]]]) -> None:
        for number, row, verdict in graded:
            if verdict.result().published is Outcome.WRONG:
                shard = self.shards[number]
                self.splits[shard.split].add("wrong", shard.name, [row])

    def compare(self) -> None:
        """The findings that take all rows of a problem, bucket by bucket."""
        import numpy as np

        progress = Progress("comparing rows", BUCKETS, "buckets")
        for bucket in range(BUCKETS):
            path = self.work / str(bucket)
            rows = np.fromfile(path, groups.record()) if path.exists() else np.array([], groups.record())
            for problem in groups.by_problem(rows):
                for split in {self.shards[number].split for number in np.unique(problem["shard"])}:
                    self.splits[split].problems += 1
                self._add("near-duplicates", groups.near_duplicates(problem))
                several = groups.several_answers(problem)
                if several and self._differ(several.answers):
                    self._add("several-answers", several.rows)
            progress.add(1)
        progress.close()

    def _add(self, finding: str, records: "np.ndarray") -> None:
        for record in records:
            shard = self.shards[int(record["shard"])]
            self.splits[shard.split].add(finding, shard.name, [int(record["row"])])

    def _differ(self, answers: list[int]) -> bool:
        """Whether one of some answers to a problem has another value than the most frequent one."""
        first, *others = (self.answers[answer] for answer in answers)
        return any(
            verdict.published is Outcome.WRONG for verdict in self.grader.grade((o, first) for o in others)
        )

    def worst(self) -> list[Overlap]:
        """The rows that share most with a problem of the benchmark."""
        return [one for _, _, one in sorted(self.overlaps, reverse=True)]

    def write(self, output: Path) -> None:
        """A list of rows for each finding."""
        for finding in FINDINGS:
            rows = [
                (name, *place)
                for name, split in self.splits.items()
                for place in split.found.get(finding, ())
            ]
            lists.write(found.list_of(output, finding), rows)
