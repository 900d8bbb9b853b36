"""Lists of rows, and `make data DROP=`, which leaves them out."""

import json
import os

import pytest

from omr.data.quality import lists
from omr.errors import RequestError
from omr.files import sha256
from omr.tiny import corpus
from tests.data.kit import make

ROWS = {"cot": 60, "tir": 30, "genselect": 10}


def test_written_and_read(tmp_path):
    path = tmp_path / "x" / "wrong.txt"
    lists.write(path, [("tir", "b", 7), ("cot", "a", 12), ("cot", "a", 3)])
    assert path.read_text() == "# split\tshard\trow (from 0)\ncot\ta\t3\ncot\ta\t12\ntir\tb\t7\n"
    rows = lists.read(path)
    assert (rows.of("cot", "a"), rows.of("tir", "b"), rows.of("tir", "a")) == ([3, 12], [7], [])
    assert rows.sha256 == sha256(path)


def test_lists_may_be_put_together(tmp_path):
    path = tmp_path / "both.txt"
    path.write_text("# a\ncot a 3\n\ncot a 12\n# b\ncot\ta\t3\n")
    assert lists.read(path).of("cot", "a") == [3, 12]


@pytest.mark.parametrize("line", ["cot a", "cot a x", "cot a -1", "cot a 1 2", "cot a ³", "<html>"])
def test_what_is_no_row(tmp_path, line):
    path = tmp_path / "list.txt"
    path.write_text(f"cot a 1\n{line}\n")
    with pytest.raises(RequestError, match=r"list\.txt:2: .* is no row; write split, shard"):
        lists.read(path)


def test_what_cannot_be_read(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none", tmp_path / "binary", tmp_path):
        with pytest.raises(RequestError, match=f"DROP={path}: "):
            lists.read(path)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    corpus.write_corpus(folder, rows=ROWS)
    return folder


def lines(workspace, name):
    return (workspace / f"data/tiny-round1{name}.jsonl").read_bytes().splitlines()


def words(raw, *more):
    return ("--dataset", "tiny", "--raw", raw, "--allow", "rows", *more)


@pytest.mark.slow
def test_listed_rows_are_left_out_and_said(tmp_path, raw):
    import pyarrow.parquet as pq

    listed = {("cot", "cot-00000-of-00003.parquet"): [0, 5, 19], ("tir", "tir-00001-of-00002.parquet"): [2]}
    path = tmp_path / "list.txt"
    lists.write(path, [(*place, row) for place, rows in listed.items() for row in rows])
    make(tmp_path, *words(raw))
    said = make(tmp_path, *words(raw, "--drop", path, "--name", "clean"))
    assert "4 left out by DROP" in said.stdout
    gone = {
        pq.read_table(raw / "data" / shard).to_pylist()[row]["generated_solution"]
        for (_, shard), rows in listed.items()
        for row in rows
    }
    before, after = lines(tmp_path, ""), lines(tmp_path, "-clean")
    missing = [json.loads(line) for line in {*before} - {*after}]
    assert len(before) - len(after) == 4 == len(missing) and {*after} < {*before}
    assert {row["output"].removesuffix("<|im_end|>\n") for row in missing} == gone
    made = json.loads((tmp_path / "data/tiny-round1-clean.manifest.json").read_text())
    assert made["inputs"]["drop"] == sha256(path)
    assert {split: facts["dropped"] for split, facts in made["splits"].items()} == {
        **{"cot": {"DROP": 3}, "tir": {"DROP": 1}},
        "genselect": {},
    }
    assert "drop" not in json.loads((tmp_path / "data/tiny-round1.manifest.json").read_text())["inputs"]
    path.write_text("cot cot-00000-of-00003.parquet 1\n")
    again = make(tmp_path, *words(raw, "--drop", path, "--name", "clean"), check=False)
    assert again.returncode == 2 and "drop was " in again.stderr


@pytest.mark.parametrize(
    ("name", "said"), [("pipe", "no plain file"), ("folder", "no plain file"), ("none", "No such file")]
)
def test_what_is_no_list(tmp_path, name, said):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with pytest.raises(RequestError, match=f"DROP={tmp_path / name}: {said}"):
        lists.read(tmp_path / name)


@pytest.mark.parametrize(
    ("line", "more", "said"),
    [
        ("cot cot-00000-of-00003.parquet 1", [], "makes another file than the recipe's; add NAME="),
        (
            "cot cot-00009-of-00003.parquet 1",
            ["--name", "x"],
            "cot-00009-of-00003.parquet is no shard of cot",
        ),
        ("cot cot-00000-of-00003.parquet 20", ["--name", "x"], "has 20 rows, the list names row 20"),
        ("cto cot-00000-of-00003.parquet 1", ["--name", "x"], "cto is no split; write cot, tir or genselect"),
        ("cot row", ["--name", "x"], "is no row"),
        (f"cot cot-00000-of-00003.parquet {'9' * 5000}", ["--name", "x"], "is no row"),
    ],
)
def test_what_is_refused(tmp_path, raw, line, more, said):
    (tmp_path / "list.txt").write_text(line + "\n")
    refused = make(tmp_path / "w", *words(raw, "--drop", tmp_path / "list.txt", *more), check=False)
    assert refused.returncode == 2 and said in refused.stderr and refused.stderr.count("\n") == 1
    assert not list((tmp_path / "w").glob("data/*.jsonl"))
