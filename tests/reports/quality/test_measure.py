"""A corpus with a fault planted for each finding: exactly those rows are listed."""

import contextlib
import json
import random
import subprocess
import sys

import pytest

from omr import manifest, recipe
from omr.data import process_pool, request
from omr.errors import OmrError, RequestError
from omr.evaluation.problems import Problem, ProblemSet
from omr.reports.quality import found, measure, section
from omr.reports.quality.found import Share
from omr.settings import ROOT
from omr.tiny import corpus
from omr.workspace import Workspace
from tests.data.kit import Inline, environment, make

SHARD = {split: f"{split}-00000-of-00001.parquet" for split in ("cot", "genselect")}
BENCHMARK = (
    "Let a and b be whole numbers whose sum is twelve and whose product is thirty five; what is the larger"
    " of the two numbers a and b"
)


def plain(split, number):
    """A row without a fault."""
    draw = random.Random(f"{split} {number}")
    words = " ".join(f"w{draw.randrange(5000)}" for _ in range(150))
    end = "\nJudgment: 1" if split == "genselect" else f" So it is \\boxed{{{number}}}."
    row = next(corpus.split_rows(split, 1))
    answer = "1" if split == "genselect" else str(number)
    problem = f"{split}: how much is {number} and nothing, in the {number}th question of all?"
    return {**row, "problem": problem, "expected_answer": answer, "generated_solution": words + end}


def with_faults():
    """split -> rows, and finding -> the rows that have it."""
    rows = {split: [plain(split, number) for number in range(30)] for split in SHARD}
    cot, genselect = rows["cot"], rows["genselect"]

    def put(row, **values):
        row |= values

    def solution(row, text):
        row["generated_solution"] = row["generated_solution"].rpartition(" So it is")[0] + text

    solution(cot[3], r" So it is \boxed{999}.")
    put(cot[4], expected_answer="1/2")
    solution(cot[4], r" So it is \boxed{\frac{1}{2}}.")  # written otherwise, and right
    solution(cot[5], r" So it is \boxed{5")
    for one, other, answers in ((6, 7, ("5", "6")), (8, 9, ("0.5", "1/2"))):
        put(cot[other], problem=cot[one]["problem"].upper().replace(" ", "\n"))
        for row, answer in zip((one, other), answers, strict=True):
            put(cot[row], expected_answer=answer)
            solution(cot[row], rf" So it is \boxed{{{answer}}}.")
    solution(cot[10], " wait, let me see that again" * 12 + r" So it is \boxed{10}.")
    put(cot[11], problem=cot[11]["problem"] + "<|im_start|>")
    solution(cot[12], r" So it is \boxed{12}.<|endoftext|>")
    put(cot[14], problem=cot[13]["problem"], expected_answer="13")
    put(cot[14], generated_solution=cot[13]["generated_solution"].replace("w", "W", 40) + " Done.")
    put(cot[15], problem=BENCHMARK.replace(" ", "\n").upper())
    put(
        genselect[2],
        generated_solution=genselect[2]["generated_solution"].replace("Judgment: 1", "Judgment: 0"),
    )
    put(genselect[3], generated_solution=genselect[3]["generated_solution"].replace("Judgment: 1", "none"))
    put(
        genselect[4],
        problem=f"{BENCHMARK}\nSolution 0: 5\nSolution 1: 7 " + " ".join(map(str, range(300))),
    )
    return rows, {
        "wrong": {("cot", 3), ("genselect", 2)},
        "no-answer": {("cot", 5), ("genselect", 3)},
        "several-answers": {("cot", 6), ("cot", 7)},
        "loops": {("cot", 10)},
        "template-tokens": {("cot", 11), ("cot", 12)},
        "near-duplicates": {("cot", 14)},
        "benchmark": {("cot", 15), ("genselect", 4)},
    }


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A workspace with the SFT file of that corpus, the corpus's folder, and the faults."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = tmp_path_factory.mktemp("planted")
    rows, faults = with_faults()
    (root / "raw").mkdir()
    for split, made in rows.items():
        pq.write_table(pa.Table.from_pylist(made), root / "raw" / SHARD[split])
    words = ("--dataset", "tiny", "--raw", root / "raw", "--allow", "rows", "--modes", "cot,genselect")
    make(root / "space", *words)
    return Workspace(root / "space"), root / "raw", faults


def asked(planted, **more):
    workspace, raw, _ = planted
    given = {"dataset": "tiny", "raw": str(raw), "modes": "cot,genselect", "allow": "rows"}
    return request.request(workspace, **given, **more)


@pytest.fixture
def measured(planted, monkeypatch):
    monkeypatch.setattr(process_pool, "workers", lambda count: contextlib.nullcontext(Inline()))
    wanted = asked(planted)

    def run(stats="full", benchmark=None, request=wanted):
        problems = ProblemSet("own", (Problem("7", BENCHMARK), Problem("3", "What is 1+2?")))
        origin = manifest.read(wanted.output)
        return measure.measure(request, origin, stats=stats, benchmark=benchmark or problems, tokenizer=None)

    run.output = wanted.output
    return run


def listed(output):
    """Finding -> what its list has."""
    lines = {f: found.list_of(output, f).read_text().splitlines()[1:] for f in found.FINDINGS}
    parts = {finding: [line.split("\t") for line in each] for finding, each in lines.items()}
    assert all(SHARD[split] == shard for each in parts.values() for split, shard, _ in each)
    return {finding: {(split, int(row)) for split, _, row in each} for finding, each in parts.items()}


@pytest.mark.slow
def test_every_fault_is_found_and_nothing_else(planted, measured):
    made = measured()
    assert listed(measured.output) == planted[2]
    for split, shares in made.splits.items():
        for finding, share in shares.items():
            count = sum(place[0] == split for place in planted[2][finding])
            assert (share.rows, share.of, share.whole) == (count, 30, True), finding
    assert [(one.split, one.row, one.of_row, one.of_known) for one in made.worst] == [
        ("cot", 15, 1.0, 1.0),
        *[("genselect", 4, pytest.approx(0.07, abs=0.03), 1.0)],
    ]
    found.write(measured.output, made)
    assert found.read(measured.output) == made


@pytest.mark.parametrize(
    "part",
    [
        {"splits": {"cot": {"wrong": {"rows": "5"}}}},
        {"rows_per_second": "x"},
        {"worst": [5]},
        {"splits": {"cot": {}}},
    ],
)
def test_damaged_figures_are_one_line(tmp_path, part):
    whole = {"data": "ab", "stats": "full", "benchmark": "x", "rows_per_second": 1, "splits": {}, "worst": []}
    data = tmp_path / "tiny-round1.jsonl"
    found.path_of(data).write_text(json.dumps({**whole, **part}))
    with pytest.raises(OmrError, match=r"quality\.json: is damaged .*; make data-report QUALITY=1 FORCE=1"):
        found.read(data)


@pytest.mark.slow
def test_without_a_benchmark_the_rest_is_found(planted, measured):
    made = measured(benchmark="not looked for (there is none)")
    wanted = {**planted[2], "benchmark": set()}
    assert listed(measured.output) == wanted and not made.worst
    assert "not looked for (there is none)" in next(section.sections(made)).text


@pytest.mark.slow
def test_a_sample_has_all_rows_of_a_problem(planted, measured, monkeypatch):
    monkeypatch.setattr(measure, "SAMPLE", 30)
    made = measured("sample")
    cot = made.splits["cot"]
    assert 5 < cot["wrong"].of < 25 and not cot["wrong"].whole
    assert cot["benchmark"] == Share(1, 30, cot["wrong"].problems, True), "is looked for in every row"
    rows = listed(measured.output)
    assert {r for _, r in rows["several-answers"]} in (set(), {6, 7}), "both or none"
    assert all(rows[finding] <= planted[2][finding] for finding in rows)
    low, high = cot["wrong"].interval
    assert low <= cot["wrong"].rows / cot["wrong"].of <= high


@pytest.mark.slow
def test_other_raw_rows_than_the_files_are_refused(planted, measured, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(f"cot {SHARD['cot']} 1\n")
    with pytest.raises(RequestError, match=r"gives 29 rows of cot, .* has 30; give the words"):
        measured(request=asked(planted, drop=str(path), name="x"))


@pytest.mark.parametrize(
    ("share", "n", "interval"),
    [
        (0.0, 10, (0.0, 0.2775)),  # Wilson's interval, as tables have it
        (0.5, 10, (0.2366, 0.7634)),
        (0.1, 100, (0.0552, 0.1744)),
        (1.0, 0, (0.0, 1.0)),
    ],
)
def test_the_interval(share, n, interval):
    assert found.wilson(share, n) == pytest.approx(interval, abs=1e-4)


@pytest.mark.parametrize(
    ("share", "told"),
    [
        (Share(3, 1000, 900, True), "3 (0.3%)"),
        (Share(3, 1000, 900, False), "3 (0.3%, 0.097–0.93)"),
        (Share(0, 0, 0, True), "0 (0%)"),
    ],
)
def test_how_a_share_is_told(share, told):
    assert section.told(share) == told


@pytest.mark.slow
def test_the_script(planted, tmp_path):
    """Lists, page, JSON; the second time at once; rows of a list are left out of the next file."""
    workspace, raw, faults = planted
    problems = tmp_path / "own.jsonl"
    problems.write_text(json.dumps({"problem": BENCHMARK, "expected_answer": "7"}) + "\n")
    words = ["--dataset", "tiny", "--raw", raw, "--modes", "cot,genselect"]

    def script(*more):
        command = [sys.executable, ROOT / "bin/data_report.py", *words, "--quality", *more]
        done = subprocess.run(
            map(str, command), env=environment(workspace.root), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    output = workspace.data("tiny", "round1", recipe.modes("cot,genselect", "tiny"))
    said = script("--problems", problems, "--stats", "full")
    assert "several-answers  2 (6.7%)     0 (0%)" in said
    assert listed(output) == faults
    page = output.with_suffix(".report.html").read_text()
    assert "THE LARGER" in " ".join(page.split()) and "Quality" in page
    before = found.path_of(output).stat().st_mtime_ns
    told = json.loads(script("--problems", problems, "--json"))
    assert told["splits"]["cot"]["loops"]["rows"] == 1
    assert found.path_of(output).stat().st_mtime_ns == before, "a full report is as good as a sample"
    clean = [*words, "--allow", "rows", "--name", "clean", "--drop", found.list_of(output, "wrong")]
    assert "2 left out by DROP" in make(workspace.root, *clean).stdout
    held = [*words, "--modes", "cot", "--allow", "rows", "--name", "held", "--validation", "0.3"]
    assert "problems held out" in make(workspace.root, *held).stdout
    assert "several-answers  2 (6.7%)" in script("--modes", "cot", "--name", "held", "--stats", "full")
