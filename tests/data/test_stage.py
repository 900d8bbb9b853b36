"""`make data` from outside: refusals, resume, locks, bad rows, limits, the hub, several machines."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench import corpus
from omr import files, recipe
from omr.data import formatting, rows
from omr.settings import ROOT
from omr.tiny import corpus as tiny
from omr.tiny.tokenizer import tiny_tokenizer
from tests.data.kit import COLUMNS, environment, heed_interrupts, make, process
from tests.data.test_same_rows import lines
from tests.models.hub.loopback import Hub

SMALL = {"cot": 300, "tir": 200, "genselect": 60, "additional_problems": 1}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small raw corpus, as RAW= names it."""
    folder = tmp_path_factory.mktemp("small")
    tiny.write_corpus(folder, rows=SMALL)
    return folder


@pytest.fixture(scope="module")
def done(small, tmp_path_factory):
    """A workspace in which round 1 of it is made."""
    workspace = tmp_path_factory.mktemp("done")
    process(workspace, *tiny_words(small))
    return workspace


def tiny_words(raw, *more):
    """A corpus in the shape of the tiny one, with rows of its own."""
    return ("--dataset", "tiny", "--raw", raw, "--allow", "rows", *more)


def output(workspace, name="tiny-round1"):
    return Path(workspace) / f"data/{name}.jsonl"


def sha(workspace, name="tiny-round1"):
    return json.loads(output(workspace, name).with_suffix(".manifest.json").read_text())["sha256"]


def refused(said, code, *words):
    assert said.returncode == code, said.stderr
    assert said.stderr.startswith("error: ") and said.stderr.count("\n") == 1, said.stderr
    for word in words:
        assert word in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize(
    "words, said",
    [
        (("--dataset", "foo"), "DATASET=foo is unknown; choose openmathreasoning or tiny"),
        (("--round", "3"), "ROUND=3 is unknown; choose 1 or 2"),
        (("--round", "2", "--variant", "foo"), "VARIANT=foo is unknown; choose recommended or paper"),
        (("--modes", "cot,foo"), "MODES=foo is unknown; choose cot, tir or genselect"),
        (("--seed", "abc"), "SEED=abc is not a whole number"),
        (("--seed", "3"), "SEED=3 makes another file than the recipe's; add NAME=…"),
        (("--limit", "10"), "LIMIT=10 makes another file than the recipe's; add NAME=…"),
        (("--limit", "0", "--name", "x"), "LIMIT=0 is not a whole number from 1 up"),
        (("--bad_rows", "maybe"), "BAD_ROWS=maybe is unknown; choose stop or skip"),
        (("--memory", "lots"), "MEMORY=lots is no amount of memory; write 512M or 4G"),
        (("--memory", "20M"), "MEMORY=20M is too little; one worker needs"),
        (("--workers", "0"), "WORKERS=0 is not a whole number from 1 up"),
        (("--raw", "/nowhere"), "RAW=/nowhere: no such folder"),
        (("--name", "a/b"), "NAME=a/b is no name"),
        (("--part", "3/2"), "--part 3/2 is no part"),
        (("--dataset", "openmathreasoning", "--tokenizer", "/nowhere"), "TOKENIZER=/nowhere: no such folder"),
    ],
)
def test_refused_in_one_line(tmp_path, words, said):
    refused(make(tmp_path / "w", "--dataset", "tiny", *words, check=False), 2, said)
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_a_second_run_does_nothing_in_under_a_second(small, done):
    output_file = output(done)
    before, start = output_file.stat(), time.monotonic()
    said = process(done, *tiny_words(small))
    assert time.monotonic() - start < 1 or os.getloadavg()[0] > 3
    assert "(finished already)" in said.stdout
    assert output_file.stat() == before


def test_no_scratch_is_left(done):
    left = {p.name for p in (done / "data").iterdir()}
    locks = {".tiny-round1.lock", ".tiny-round1.plan.lock"}
    assert left - locks == {"tiny-round1.jsonl", "tiny-round1.manifest.json"}
    assert all((done / "data" / name).stat().st_size < 100 for name in locks)


def test_the_manifest_says_where_every_byte_came_from(small, done):
    made = json.loads(output(done).with_suffix(".manifest.json").read_text())
    data = output(done).read_bytes()
    assert (made["sha256"], made["size"], made["rows"]) == (files.sha256(output(done)), len(data), 560)
    assert made["splits"]["tir"] == {
        **{"read": 200, "kept": 200, "dropped": {}, "rejected": {}},
        "two_digits": sum(b"Remaining code executions: 12" in line for line in data.splitlines()),
    }
    for path in small.rglob("*.parquet"):
        if not path.name.startswith("additional"):
            assert made["shards"][path.name]["sha256"] == files.sha256(path)
    assert made["source"] == str(small)
    assert made["inputs"]["seed"] == 0 and made["inputs"]["bad_rows"] == "stop"
    assert made["prompts"]["cot"]["exact"] is True
    assert made["versions"]["shuf"].startswith("shuf (GNU coreutils)")
    assert made["command"].startswith("data.py --dataset tiny")


def copied(done, tmp_path):
    return Path(shutil.copytree(done, tmp_path / "copy"))


@pytest.mark.slow
def test_changed_inputs_are_named(small, done, tmp_path):
    workspace = copied(done, tmp_path)
    refused(
        make(workspace, *tiny_words(small, "--bad_rows", "skip"), check=False),
        2,
        "was made from other inputs: bad_rows was stop, is skip; FORCE=1 makes it anew",
    )
    other = tmp_path / "other"
    tiny.write_corpus(other, seed=1, rows=SMALL)
    before = output(workspace).read_bytes()
    refused(make(workspace, *tiny_words(other), check=False), 2, "raw was ")
    assert output(workspace).read_bytes() == before
    make(workspace, *tiny_words(other, "--force"))
    assert output(workspace).read_bytes() != before
    make(workspace, *tiny_words(small, "--force"))
    assert output(workspace).read_bytes() == before


def test_the_same_bytes_elsewhere_are_the_same_input(small, done, tmp_path):
    workspace = copied(done, tmp_path)
    moved = shutil.copytree(small, tmp_path / "moved", copy_function=shutil.copy)
    manifest = output(workspace).with_suffix(".manifest.json")
    before = json.loads(manifest.read_text())
    assert "(finished already)" in make(workspace, *tiny_words(moved)).stdout
    after = json.loads(manifest.read_text())
    assert after["inputs"] == before["inputs"] and after["shards"] != before["shards"]
    # The same size and another content are another input.
    path = next(moved.rglob("cot-00000*"))
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    refused(make(workspace, *tiny_words(moved), check=False), 2, "raw was ")


def test_raw_files_may_go_when_the_output_is_there(done, tmp_path):
    workspace = tmp_path / "w"
    make(workspace, "--dataset", "tiny", "--limit", 50, "--name", "few")
    shutil.rmtree(workspace / "raw")
    assert "(finished already)" in make(workspace, "--dataset", "tiny", "--limit", 50, "--name", "few").stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [("--workers", 1), ("--memory", "330M"), ("--memory", "4G", "--workers", 4)]
)
def test_means_decide_no_byte(small, done, tmp_path, words):
    make(tmp_path, *tiny_words(small, *words))
    assert output(tmp_path).read_bytes() == output(done).read_bytes()


@pytest.mark.slow
def test_names_of_what_differs_from_the_recipe(small, done, tmp_path):
    make(tmp_path, *tiny_words(small, "--seed", 5, "--name", "other"))
    other, usual = lines(output(tmp_path, "tiny-round1-other")), lines(output(done))
    assert other != usual
    assert sorted(map(json.dumps, other)) == sorted(map(json.dumps, usual))
    make(tmp_path, *tiny_words(small, "--modes", "genselect,cot"))
    kinds = [row["inference_mode"] for row in lines(output(tmp_path, "tiny-round1-cot+genselect"))]
    assert (kinds.count("cot"), kinds.count("genselect"), len(kinds)) == (300, 60, 360)


@pytest.mark.slow
def test_limit_takes_the_first_rows_of_each_split(small, done, tmp_path):
    make(tmp_path, *tiny_words(small, "--limit", 120, "--name", "few"))
    few = lines(output(tmp_path, "tiny-round1-few"))
    expected = []
    for split in recipe.SPLITS:
        raw_rows = list(tiny.split_rows(split, SMALL[split]))[:120]
        expected += [row["generated_solution"] + "<|im_end|>\n" for row in raw_rows]
    assert sorted(row["output"] for row in few) == sorted(expected)


def test_gaps_and_doubles_in_the_raw_folder(small, tmp_path):
    folder = Path(shutil.copytree(small, tmp_path / "raw"))
    (folder / "data/cot-00001-of-00003.parquet").unlink()
    said = make(tmp_path / "w", *tiny_words(folder), check=False)
    refused(said, 2, "cot shards 00001 are missing")
    shutil.copy(folder / "data/cot-00000-of-00003.parquet", folder)
    refused(make(tmp_path / "w", *tiny_words(folder), check=False), 2, "is there twice")
    for path in folder.rglob("genselect*"):
        path.unlink()
    said = make(tmp_path / "w", *tiny_words(folder, "--modes", "genselect"), check=False)
    refused(said, 2, "has no genselect-*.parquet")
    assert not list((tmp_path / "w/data").glob("*.jsonl"))


@pytest.mark.slow
def test_two_runs_at_once(small, tmp_path):
    """The second ends with a line that names the first; neither harms the other."""
    data = tmp_path / "data"
    data.mkdir()
    with files.lock(data / ".tiny-round1.lock", "it"):
        refused(
            make(tmp_path, *tiny_words(small), check=False),
            1,
            f"is being made by process {os.getpid()}",
            "wait for it, or stop it",
        )
    make(tmp_path, *tiny_words(small))


# Bad rows ----------------------------------------------------------------------------------------------


def a_split(folder, split="cot", count=400, change=None, schema=None):
    """A raw corpus of one split in one file of four row groups, with `change` done to its rows."""
    table = list(tiny.split_rows(split, count))
    for row in table:
        row["problem_source"] = "aops_c6_high_school_olympiads"
        row["pass_rate_72b_tir"] = "0.1"
    if change:
        change(table)
    (folder / "data").mkdir(parents=True)
    path = folder / f"data/{split}-00000-of-00001.parquet"
    columns = {
        name: pa.array([row[name] for row in table], kind) for name, kind in (schema or SCHEMA).items()
    }
    pq.write_table(pa.table(columns), path, row_group_size=100, compression="none", use_dictionary=False)
    return path


SCHEMA = {**dict.fromkeys(COLUMNS.texts, pa.string()), "used_in_kaggle": pa.bool_()}


def setting(row, **values):
    return lambda table: table[row].update(values)


BAD = {
    "null solution": ("cot", setting(257, generated_solution=None), "generated_solution is null"),
    "null problem": ("genselect", setting(0, problem=None), "problem is null"),
    "no ending": ("tir", setting(399, generated_solution="no tools"), "neither ending of tool use"),
    "no number after the marker": (
        *("tir", setting(100, generated_solution="Remaining code executions: x")),
        "neither ending of tool use",
    ),
}
BAD_RATES = {
    "pass rate of abc": ("cot", setting(123, pass_rate_72b_tir="abc"), "pass rate is 'abc', no number"),
    "null pass rate": ("genselect", setting(123, pass_rate_72b_tir=None), "pass rate is null, no number"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*BAD, *BAD_RATES])
def test_a_bad_row_stops_or_is_left_out(tmp_path, name):
    split, change, reason = (BAD | BAD_RATES)[name]
    path = a_split(tmp_path / "raw", split, change=change)
    number = next(n for n, row in enumerate(_changed(split, change)) if row)
    round_words = ("--round", 2) if name in BAD_RATES else ()
    words = (*tiny_words(tmp_path / "raw"), "--modes", split, *round_words)
    said = make(tmp_path / "w", *words, check=False)
    refused(said, 1, f"{path}: row group {number // 100}, row {number}: ", reason, "BAD_ROWS=skip")
    file = output(tmp_path / "w", f"tiny-{'round2' if round_words else 'round1'}-{split}")
    assert not file.exists() and not file.with_suffix(".manifest.json").exists()

    made = make(tmp_path / "w", *words, "--bad_rows", "skip")
    assert "1 malformed left out" in made.stdout
    rejected = lines(file.with_suffix(".rejected.jsonl"))
    assert len(rejected) == 1 and reason in rejected[0].pop("reason")
    assert rejected == [{"file": path.name, "row_group": number // 100, "row": number, "rows": 1}]
    manifest = json.loads(file.with_suffix(".manifest.json").read_text())
    assert sum(manifest["splits"][split]["rejected"].values()) == 1
    assert manifest["rows"] == len(lines(file)) == manifest["splits"][split]["kept"]


def _changed(split, change):
    """Which rows of a_split the change changes."""
    table = [{} for _ in range(400)]
    change(table)
    return table


def test_in_round_1_nobody_reads_the_pass_rate(tmp_path):
    a_split(
        tmp_path / "raw", change=lambda table: table[5].update(pass_rate_72b_tir="abc", problem_type=None)
    )
    make(tmp_path / "w", *tiny_words(tmp_path / "raw"), "--modes", "cot")
    made = lines(output(tmp_path / "w", "tiny-round1-cot"))
    odd = [row for row in made if row["pass_rate_72b_tir"] == "abc"]
    assert len(made) == 400 and len(odd) == 1 and odd[0]["problem_type"] is None


@pytest.mark.slow
def test_text_that_is_no_utf8(tmp_path):
    def change(table):
        table[42]["expected_answer"] = "UNREADABLE"

    path = a_split(tmp_path / "raw", change=change)
    data = path.read_bytes()
    assert data.count(b"UNREADABLE") >= 1
    path.write_bytes(data.replace(b"UNREADABLE", b"UNREADABL\xff"))
    words = (*tiny_words(tmp_path / "raw"), "--modes", "cot")
    refused(make(tmp_path / "w", *words, check=False), 1, "row group 0, row 42: expected_answer is not UTF-8")
    make(tmp_path / "w", *words, "--bad_rows", "skip")
    assert len(lines(output(tmp_path / "w", "tiny-round1-cot"))) == 399


@pytest.mark.slow
@pytest.mark.parametrize(
    "schema, fault",
    [
        ({k: v for k, v in SCHEMA.items() if k != "problem"}, "column problem is missing"),
        (
            {("solution" if k == "generated_solution" else k): v for k, v in SCHEMA.items()},
            "column generated_",
        ),
        ({**SCHEMA, "used_in_kaggle": pa.string()}, "column used_in_kaggle is string"),
    ],
)
def test_a_file_of_another_schema(tmp_path, schema, fault):
    def change(table):
        for row in table:
            row["solution"], row["model"] = row["generated_solution"], row["generation_model"]
            if schema.get("used_in_kaggle") == pa.string():
                row["used_in_kaggle"] = "yes"

    path = a_split(tmp_path / "raw", change=change, schema=schema)
    words = (*tiny_words(tmp_path / "raw"), "--modes", "cot")
    refused(make(tmp_path / "w", *words, check=False), 1, f"{path}: {fault}")
    said = make(tmp_path / "w", *words, "--bad_rows", "skip", check=False)
    refused(said, 1, "400 of 400 rows are malformed", "1% at most")


@pytest.mark.slow
@pytest.mark.parametrize("keep", [0, 4, 1000, -10])
def test_a_truncated_file(tmp_path, keep):
    path = a_split(tmp_path / "raw")
    a_split(tmp_path / "more", "tir")
    shutil.move(tmp_path / "more/data/tir-00000-of-00001.parquet", path.parent)
    path.write_bytes(path.read_bytes()[:keep])
    words = (*tiny_words(tmp_path / "raw"), "--modes", "cot,tir")
    refused(make(tmp_path / "w", *words, check=False), 1, f"{path}: cannot be read as parquet")
    # Nothing tells how many rows are lost: that is no reason to take them for none.
    said = make(tmp_path / "w", *words, "--bad_rows", "skip", check=False)
    refused(said, 1, f"{path}: cannot be read as parquet", "how many rows are lost is not known")
    assert not list((tmp_path / "w/data").glob("*.jsonl"))


def test_a_damaged_page(tmp_path):
    """The footer is whole, a row group is not: its rows are out, the other groups' stay."""
    path = a_split(tmp_path / "raw", count=2000)
    meta = pq.read_metadata(path)
    column = meta.row_group(7).column(COLUMNS.names.index("problem"))
    data = bytearray(path.read_bytes())
    at = column.data_page_offset
    data[at : at + 40] = bytes(40)
    path.write_bytes(data)
    words = (*tiny_words(tmp_path / "raw"), "--modes", "cot")
    refused(make(tmp_path / "w", *words, check=False), 1, "row group 7, row 700: cannot be read")
    said = make(tmp_path / "w", *words, "--bad_rows", "skip", check=False)
    refused(said, 1, "100 of 2,000 rows are malformed so far")


@pytest.mark.slow
def test_a_shard_that_changed_since_it_was_made(tmp_path):
    """Parquet that reads well, with another text in it: nothing but its hash tells."""
    words = ("--dataset", "tiny", "--modes", "tir", "--limit", "40", "--name")
    make(tmp_path, *words, "first")
    path = tmp_path / "raw/tiny/data/tir-00001-of-00002.parquet"
    table, kept = pq.read_table(path), path.read_bytes()
    at = table.schema.get_field_index("problem")
    texts = [f"{text} again" for text in table["problem"].to_pylist()]
    pq.write_table(table.set_column(at, table.schema.field(at), pa.array(texts)), path)
    words = ("--dataset", "tiny", "--modes", "tir")
    refused(make(tmp_path, *words, check=False), 1, f"{path}: changed since it was brought; bring it back")
    assert not output(tmp_path, "tiny-round1-tir").exists()
    path.write_bytes(kept)
    assert make(tmp_path, *words).returncode == 0


@pytest.mark.parametrize("fails_at", [None, 70])
def test_few_rows_of_many_batches_are_taken_together(tmp_path, monkeypatch, fails_at):
    """Also what was read before a batch that cannot be."""

    real = formatting._batches

    def batches(file, columns, group, count):
        for number, batch in enumerate(real(file, columns, group, count)):
            if fails_at == number * 10:
                raise pa.ArrowInvalid("a page is torn")
            assert len(batch) == 10
            yield batch

    found, torn = [], None
    with pq.ParquetFile(a_split(tmp_path)) as file:
        monkeypatch.setattr(formatting, "BATCH", file.metadata.row_group(1).total_byte_size // 10 + 1)
        monkeypatch.setattr(formatting, "_batches", batches)
        keep = np.arange(100) % 5 == 0
        try:
            found += formatting.read(file, COLUMNS, 1, 100, keep)
        except formatting.Damaged as error:
            torn = error
    whole = fails_at or 100
    solutions = pq.read_table(next(tmp_path.glob("data/*.parquet")))["generated_solution"].to_pylist()
    assert [row for chunk in found for row in chunk.numbers] == list(range(100, 100 + whole, 5))
    texts = [text for chunk in found for text in chunk.batch["generated_solution"].to_pylist()]
    assert texts == solutions[100 : 100 + whole : 5]
    sizes = [len(chunk.batch) for chunk in found]
    assert 1 < len(sizes) < 6 and max(sizes) > 2
    assert (torn and (torn.row, str(torn))) == (fails_at and (fails_at, "cannot be read (a page is torn)"))


def test_what_fails_in_the_columns_is_not_called_damage_of_the_file(tmp_path, monkeypatch):
    """Else BAD_ROWS=skip would lose rows in silence."""

    def fail(*_):
        raise pa.ArrowInvalid("a fault of ours")

    monkeypatch.setattr(rows, "unreadable", fail)
    a_split(tmp_path / "raw")
    words = (*tiny_words(tmp_path / "raw"), "--modes", "cot", "--bad_rows", "skip")
    with pytest.raises(pa.ArrowInvalid, match="a fault of ours"):
        make(tmp_path / "w", *words)


# Killed ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_interrupt_of_the_run_alone_ends_it(tmp_path):
    """As a container's engine sends it: to the first process, not to those that it made."""
    raw = tmp_path / "raw"
    corpus.generate(raw, 200_000_000, shards=12)  # a second of work for one worker behind the plan
    environ = {**os.environ, "WORKSPACE": str(tmp_path / "ws"), "OMR_ENV_FILE": "/dev/null"}
    command = [sys.executable, ROOT / "bin" / "data.py", *map(str, tiny_words(raw)), "--workers", "1"]
    child = subprocess.Popen(
        command,
        env=environ,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    while child.poll() is None and not [*tmp_path.glob("ws/data/.*.work/plan.json")]:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGINT)
    said = child.communicate(timeout=20)[1]
    assert child.returncode == 130 and "interrupted; run the same command again" in said


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    """SIGKILL twenty times; each run goes on, and the bytes are an undisturbed run's."""
    raw = tmp_path / "raw"
    corpus.generate(raw, 60_000_000, shards=12)
    for path in raw.rglob("*.parquet"):  # the tiny corpus's prompts take any rows
        assert path.stat().st_size
    wrapper = tmp_path / "run.py"
    wrapper.write_text(
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'bin')!r}]\n"
        "import omr.data.scratch\n"
        "omr.data.scratch.BUCKET = 3_000_000\n"
        "import data\nfrom omr import cli\n"
        "if __name__ == '__main__':\n    cli.main(data.main)\n"
    )

    def start(workspace):
        environ = {**os.environ, "WORKSPACE": str(workspace), "OMR_ENV_FILE": "/dev/null"}
        command = [sys.executable, wrapper, *map(str, tiny_words(raw))]
        return subprocess.Popen(
            command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    began = time.monotonic()
    whole = start(tmp_path / "whole")
    said = whole.communicate()
    assert whole.returncode == 0, said
    usual = time.monotonic() - began
    dice, killed, progress = random.Random("killed"), 0, []
    for _ in range(60):
        run = start(tmp_path / "killed")
        try:
            # Short runs in between, so that every stage of the work is met.
            run.wait(dice.uniform(0.1, 0.9 if dice.random() < 0.7 else 0.5) * usual)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            killed += 1
            run.communicate()
            work = tmp_path / "killed/data/.tiny-round1.work"
            progress.append((len(list(work.glob("*.json"))), (work / "mixed").exists()))
            if killed >= 20:
                break
            continue
        said = run.communicate()
        assert run.returncode == 0, said
        assert sha(tmp_path / "killed") == sha(tmp_path / "whole")
        shutil.rmtree(tmp_path / "killed")
    run = start(tmp_path / "killed")
    said = run.communicate()
    assert run.returncode == 0, said
    assert killed == 20 and sha(tmp_path / "killed") == sha(tmp_path / "whole")
    assert output(tmp_path / "killed").read_bytes() == output(tmp_path / "whole").read_bytes()
    left = [
        p for p in (tmp_path / "killed/data").iterdir() if not p.name.endswith((".lock", ".jsonl", ".json"))
    ]
    assert not left
    print(progress)


@pytest.mark.slow
def test_a_worker_ends_with_its_parent(small, tmp_path):
    """Nothing of a killed run goes on writing."""
    import psutil

    command, pipe = [sys.executable, ROOT / "bin/data.py", *map(str, tiny_words(small))], subprocess.PIPE
    run = subprocess.Popen(command, env=environment(tmp_path), stdout=pipe, stderr=pipe)
    children = []
    for _ in range(2000):
        children = psutil.Process(run.pid).children(recursive=True)
        if len(children) >= 2 or run.poll() is not None:
            break
        time.sleep(0.005)
    run.kill()
    run.communicate()
    assert len(children) >= 2
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


@pytest.mark.slow
def test_what_lies_in_the_folder_it_is_run_from_is_not_run(small, done, tmp_path):
    """A user's numpy.py is not the library."""
    for name in ("numpy", "click", "pyarrow", "omr"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('the wrong {name}')")
    command = [sys.executable, ROOT / "bin/data.py", *map(str, tiny_words(small))]
    subprocess.run(command, env=environment(tmp_path), cwd=tmp_path, check=True)
    assert output(tmp_path).read_bytes() == output(done).read_bytes()


# Several machines --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_parts_on_several_machines(small, done, tmp_path):
    """A plan, three formatting tasks at once (one of them twice), a mix: the bytes of one machine."""
    words = tiny_words(small)
    process(tmp_path, *words, "--part", "plan")
    command, environ = [sys.executable, ROOT / "bin/data.py", *map(str, words)], environment(tmp_path)
    parts = ("0/3", "1/3", "2/3")
    tasks = [subprocess.Popen([*command, "--part", part], env=environ) for part in parts]
    assert [task.wait() for task in tasks] == [0, 0, 0]
    work = tmp_path / "data/.tiny-round1.work"
    formatted = {path.name for path in work.glob("*.lines")}  # one bucket, one file
    assert formatted == {f"{p.name}.0.lines" for p in small.rglob("*.parquet") if "additional" not in p.name}
    before = {path: path.stat().st_mtime_ns for path in work.glob("*.lines")}
    process(tmp_path, *words, "--part", "1/3")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    process(tmp_path, *words)
    assert output(tmp_path).read_bytes() == output(done).read_bytes()
    assert not work.exists()
    assert "done" in process(tmp_path, *words, "--part", "1/3").stdout and not work.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "how", [lambda data: data[:-100], lambda data: bytes(len(data))], ids=("cut", "zeros")
)
def test_scratch_that_a_crash_has_torn_is_made_again(small, done, tmp_path, how):
    make(tmp_path, *tiny_words(small), "--part", "0/1")
    path = next((tmp_path / "data").glob(".*.work/cot-00001*.lines"))
    path.write_bytes(how(path.read_bytes()))
    make(tmp_path, *tiny_words(small))
    assert output(tmp_path).read_bytes() == output(done).read_bytes()


# The hub -----------------------------------------------------------------------------------------------


STAND_IN = '''
"""A stand-in for nemo-skills: the tiny prompts under the names that the recipe asks for."""
from omr import recipe
from omr.data import prompts


def get_prompt(config, tokenizer, code_tags, system_message):
    names = {"generic/math": "tiny/math", "openmath/tir": "tiny/tir"}
    assert (code_tags, system_message) == ("openmath" if config == "openmath/tir" else None, "")
    if not isinstance(config, dict):
        config = prompts.read_yaml(prompts.config_file(recipe.shipped("tiny").corpus, names[config]))
    return prompts.YamlPrompt(config, tokenizer)
'''


@pytest.fixture
def hub(small, tmp_path):
    """The real corpus's repositories, small, on a hub of our own."""
    with Hub() as server:
        real = recipe.CORPORA["openmathreasoning"]
        shards = {f"data/{p.name}": p.read_bytes() for p in small.rglob("*.parquet")}
        server.add("dataset", real.source.repo, {**shards, "README.md": b"about"}, real.source.revision)
        folder = tmp_path / "tokenizer"
        tiny_tokenizer().save_pretrained(folder)
        tokenizer = {p.name: p.read_bytes() for p in folder.iterdir()}
        for pin in (real.prompt_tokenizer, real.length_tokenizer):
            server.add(
                "model", pin.repo, {**tokenizer, "config.json": b"{}", "model.bin": b"no"}, pin.revision
            )
        package = tmp_path / "site/nemo_skills/prompt"
        package.mkdir(parents=True)
        (package.parent / "__init__.py").write_text("")
        (package / "__init__.py").write_text("")
        (package / "utils.py").write_text(STAND_IN)
        server.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("HF_")},
            "HF_ENDPOINT": server.endpoint,
            "HF_HOME": str(tmp_path / "home"),
            "PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}",
            "OMR_ENV_FILE": "/dev/null",
            "WORKSPACE": str(tmp_path / "w"),
            "ALLOW": "rows",
        }
        yield server


def from_hub(hub, *words, **environ):
    command = [sys.executable, ROOT / "bin/data.py", "--dataset", "openmathreasoning", *map(str, words)]
    return subprocess.run(command, env={**hub.environ, **environ}, capture_output=True, text=True)


def asked(hub):
    return {path for _, path, _ in hub.log}


@pytest.mark.slow
def test_from_the_hub_to_the_file(hub, small, done, tmp_path):
    name = "data/tir-00001-of-00002.parquet"
    hub.fault(name, cut=5000)
    hub.fault("data/cot-00000-of-00003.parquet", status=429, retry_after=1)
    said = from_hub(hub)
    assert said.returncode == 0, said.stderr
    file = output(tmp_path / "w", "openmathreasoning-round1")
    assert sorted(file.read_bytes().splitlines()) == sorted(output(done).read_bytes().splitlines())
    made = json.loads(file.with_suffix(".manifest.json").read_text())
    real = recipe.CORPORA["openmathreasoning"]
    assert made["source"] == f"{real.source.repo}@{real.source.revision}"
    assert made["tokenizers"] == {"prompt": f"{real.prompt_tokenizer.repo}@{real.prompt_tokenizer.revision}"}
    assert made["shards"]["tir-00001-of-00002.parquet"]["sha256"] == files.sha256(small / name)
    got = asked(hub)
    assert name in got and "tokenizer.json" in got
    assert not {"README.md", "model.bin", "data/additional_problems-00000-of-00001.parquet"} & got
    # Again, and another split of the same files: nothing is asked of the hub.
    hub.log.clear()
    assert "(finished already)" in from_hub(hub, HF_HUB_OFFLINE="1").stdout
    assert from_hub(hub, "--modes", "cot", HF_HUB_OFFLINE="1").returncode == 0
    assert not hub.log


@pytest.mark.slow
def test_a_limit_downloads_what_it_needs(hub, tmp_path):
    said = from_hub(hub, "--limit", 120, "--name", "smoke")
    assert said.returncode == 0, said.stderr
    shards = {path for path in asked(hub) if path.endswith(".parquet")}
    assert shards == {
        "data/cot-00000-of-00003.parquet",
        "data/cot-00001-of-00003.parquet",
        "data/tir-00000-of-00002.parquet",
        "data/tir-00001-of-00002.parquet",
        "data/genselect-00000-of-00001.parquet",
    }
    made = lines(output(tmp_path / "w", "openmathreasoning-round1-smoke"))
    assert len(made) == 120 + 120 + 60
    assert "(finished already)" in from_hub(hub, "--limit", 120, "--name", "smoke").stdout


@pytest.mark.slow
def test_what_is_missing_is_said_before_anything_is_downloaded(hub, tmp_path):
    said = from_hub(hub, PYTHONPATH=str(ROOT))
    if "nemo-skills is not installed" not in said.stderr:
        pytest.skip("nemo-skills is installed here")
    refused(said, 2, "run make nemo", "RUNNER=docker")
    assert not hub.log and not list(tmp_path.glob("w/raw/*"))


@pytest.mark.slow
def test_a_hub_that_fails_for_good(hub, tmp_path):
    hub.fault("tree", times=100, status=404)
    refused(from_hub(hub), 1, "nvidia/OpenMathReasoning", "set RAW= to a local copy")
    hub.faults.clear()
    hub.fault("data/cot-00000-of-00003.parquet", times=100, body=b"x" * 1000)
    refused(from_hub(hub), 1, "cot-00000-of-00003.parquet")
    assert not list(tmp_path.glob("w/data/*.jsonl"))


def test_the_dry_run_writes_nothing_and_needs_nothing(tmp_path):
    said = make(tmp_path / "w", "--dataset", "openmathreasoning", "--round", 2, "--dry-run")
    assert not (tmp_path / "w").exists()
    commands = [line for line in said.stdout.splitlines() if line.startswith("hf download")]
    real = recipe.CORPORA["openmathreasoning"]
    for pin in (real.source, real.prompt_tokenizer, real.length_tokenizer):
        assert any(f"{pin.repo} " in line and f"--revision {pin.revision} " in line for line in commands)
    assert re.search(r"# cot, tir, genselect of .* -> .*openmathreasoning-round2\.jsonl", said.stdout)
