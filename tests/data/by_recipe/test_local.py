"""One's own files become shards: the recipe's columns, numbers as they are spelled, one line for a fault."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omr import recipe
from omr.data.by_recipe import local
from omr.errors import OmrError, RequestError
from omr.recipe import Columns

COLUMNS = Columns(("id", "question", "reply", "checked"), "question", "reply", ("checked",))
ROW = {"id": 2.50, "question": "1\u2028+1?", "reply": "2", "checked": True, "more": [1]}


def corpus(files):
    return replace(recipe.CORPORA["tiny"], name="mine", source=None, columns=COLUMNS, files=files)


def lines(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_json_lines_and_parquet_alike(tmp_path):
    one = lines(
        tmp_path / "a.jsonl", '{"id": 2.50, "question": "x", "reply": "é", "checked": null, "z": {}}', "", ROW
    )
    columns = {"reply": ["y"], "question": ["x"], "id": [7], "checked": [False], "more": [1]}
    pq.write_table(pa.table(columns), tmp_path / "b.parquet")
    local.write(corpus({"cot": one, "tir": tmp_path / "b.parquet"}), tmp_path / "out")
    cot = pq.read_table(tmp_path / "out/data/cot-00000-of-00001.parquet")
    assert cot.to_pylist() == [
        {"id": "2.50", "question": "x", "reply": "é", "checked": None},
        {"id": "2.5", "question": "1\u2028+1?", "reply": "2", "checked": True},
    ]
    tir = pq.read_table(tmp_path / "out/data/tir-00000-of-00001.parquet")
    assert tir.to_pylist() == [{"id": "7", "question": "x", "reply": "y", "checked": False}]
    assert cot.schema == tir.schema


def test_several_files_are_shards_in_their_order(tmp_path):
    for name in ("part-2", "part-1", "other"):
        lines(tmp_path / f"{name}.jsonl", {**ROW, "reply": name})
    row = corpus({"cot": tmp_path / "part-*.jsonl"})
    local.write(row, tmp_path / "out")
    shards = sorted((tmp_path / "out/data").iterdir())
    assert [path.name for path in shards] == ["cot-00000-of-00002.parquet", "cot-00001-of-00002.parquet"]
    assert [pq.read_table(path)["reply"][0].as_py() for path in shards] == ["part-1", "part-2"]
    assert [found["reply"] for found in local.rows(row, "cot")] == ["part-1", "part-2"]


def test_a_changed_file_is_noticed(tmp_path):
    row = corpus({"cot": lines(tmp_path / "a.jsonl", ROW)})
    assert not local.made(row, tmp_path / "out")
    local.write(row, tmp_path / "out")
    assert local.made(row, tmp_path / "out")
    assert not local.made(replace(row, columns=replace(COLUMNS, names=COLUMNS.names[1:])), tmp_path / "out")
    lines(tmp_path / "a.jsonl", ROW, ROW)
    assert not local.made(row, tmp_path / "out")


@pytest.mark.parametrize(
    "line, said",
    [
        ("{", "a.jsonl:2: is no JSON"),
        ("[]", "a.jsonl:2: is no object; write one in braces, with id, question"),
        ('{"id": "1"}', "a.jsonl:2: has no question; correct columns.names of the recipe, or the line"),
        ({**ROW, "reply": {"a": 1}}, 'a.jsonl:2: reply is {"a": "1"}; write a text or a number'),
        ({**ROW, "checked": "yes"}, 'a.jsonl:2: checked is "yes"; write true or false'),
        ({**ROW, "reply": True}, "a.jsonl:2: reply is true; write a text or a number"),
        ({**ROW, "reply": "\ud800"}, "a.jsonl:2: reply has half of a surrogate pair"),
        ("[" * 100_000, "a.jsonl:2: is no JSON"),
    ],
)
def test_a_malformed_line(tmp_path, line, said):
    with pytest.raises(OmrError) as refused:
        local.write(corpus({"cot": lines(tmp_path / "a.jsonl", ROW, line)}), tmp_path / "out")
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"id": "\xff"}\n')
    with pytest.raises(OmrError, match=r"a.jsonl:1: is not UTF-8 text"):
        local.write(corpus({"cot": tmp_path / "a.jsonl"}), tmp_path / "out")


@pytest.mark.parametrize("name", ["a.jsonl", "a-*.jsonl", "a.parquet"])
def test_a_file_that_is_not_there(tmp_path, name):
    with pytest.raises(RequestError, match="no such file"):
        local.sources(corpus({"cot": tmp_path / name}))


def test_other_kinds_of_files(tmp_path):
    (tmp_path / "a.csv").write_text("id\n")
    with pytest.raises(RequestError, match=r"is neither .jsonl nor .parquet"):
        local.sources(corpus({"cot": tmp_path / "a.csv"}))
    (tmp_path / "a.parquet").write_text("no")
    with pytest.raises(OmrError, match=r"a.parquet: cannot be read as parquet"):
        local.write(corpus({"cot": tmp_path / "a.parquet"}), tmp_path / "out")
    pq.write_table(pa.table({"id": ["1"], "questoin": ["1"]}), tmp_path / "b.parquet")
    with pytest.raises(OmrError, match=r"has no column question \(did you mean questoin"):
        local.write(corpus({"cot": tmp_path / "b.parquet"}), tmp_path / "out2")
