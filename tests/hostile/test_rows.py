"""Rows of others: parquet, problems, one's own JSON lines, kept answers, SFT files."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omr.data import corpus, formatting
from omr.data.by_recipe import local
from omr.evaluation import problems, samples
from omr.training.trl.sft_file import SftFile
from tests.data.by_recipe.test_local import ROW
from tests.data.by_recipe.test_local import corpus as own_corpus
from tests.data.kit import COLUMNS
from tests.data.test_corpus import shard

from .kit import Reader, attack

PROBLEM = (
    json.dumps({"problem": "1+1?", "expected_answer": "2", "subset_for_metrics": "aime"}).encode() + b"\n"
)
ANSWER = samples.Sample(samples.SampleId("0f", 1), samples.Answer("2", "2", True, 5), 1.5).as_line().encode()
SFT = b'{"input": "1+1?", "output": "2", "inference_mode": "cot"}\n'


def own_rows(path):
    list(local.rows(own_corpus({"cot": path}), "cot"))


def kept(path):
    for sample in samples.read(path.parent):
        assert sample.as_line() and samples.Kept.of(sample.answer)


def sft(path):
    index = path.with_suffix(".index")
    index.unlink(missing_ok=True)
    rows = SftFile(path, index)
    [rows[number] for number in range(len(rows))]


def sft_index(path):
    """The index that was kept beside the file."""
    data = path.with_name("d.jsonl")
    data.write_bytes(SFT * 3)
    if path.read_bytes() == b"good":
        path.unlink()
    rows = SftFile(data, path)
    [rows[number] for number in range(len(rows))]


READERS = {
    "problems": Reader(
        "p.jsonl",
        PROBLEM,
        lambda path: [(each.id, problems.ProblemSet("p", (each,)).digest) for each in problems.read(path)],
        "lines",
        (b'{"problem": "\\ud800", "expected_answer": "2"}', b'{"problem": "x", "expected_answer": NaN}'),
    ),
    "own JSON lines": Reader("own.jsonl", json.dumps(ROW).encode() + b"\n", own_rows, "lines"),
    "answers": Reader("answers-0-of-1.jsonl", ANSWER, kept, "lines", (b'{"problem": [], "number": {}}\n',)),
    "SFT rows": Reader("d.jsonl", SFT * 3, sft, "lines", (b'{"input": ' * 5000, b"\xff\n", b"\n\n\n")),
    "SFT index": Reader(
        "d.index", b"good", sft_index, "bytes", (b"", b"\x93NUMPY", b"\x80\x04cos\nsystem\n(S'id'\ntR.")
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_rows_are_taken_or_refused_in_a_line(name, tmp_path):
    attack(READERS[name], tmp_path / "x")


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    """A shard of the tiny corpus, as bytes."""
    return shard(tmp_path_factory.mktemp("raw") / "cot-00000-of-00001.parquet").read_bytes()


def whole_shard(path):
    """Footer and rows, as the data stage reads them; a damaged row group is its Damaged."""
    import numpy as np

    found = corpus.shards(path.parent, ("cot",))
    corpus.planned(found, COLUMNS, None)
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            keep = np.ones(file.metadata.row_group(group).num_rows, bool)
            try:
                list(formatting.read(file, COLUMNS, group, 0, keep))
            except formatting.Damaged as damaged:
                assert str(damaged).isprintable()


def test_a_shard_is_taken_or_refused_in_a_line(parquet, tmp_path):
    attack(Reader("cot-00000-of-00001.parquet", parquet, whole_shard), tmp_path / "raw")


def test_a_shard_of_ones_own_is_taken_or_refused_in_a_line(tmp_path):
    columns = {"reply": ["y"], "question": ["x"], "id": [7], "checked": [False]}
    pq.write_table(pa.table(columns), tmp_path / "own.parquet")
    attack(Reader("own.parquet", (tmp_path / "own.parquet").read_bytes(), own_rows), tmp_path / "x")
