"""The tiny corpus: the published shape, the awkward rows, the same bytes for a seed."""

import hashlib
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omr import recipe
from omr.tiny import corpus as tiny
from omr.tiny.tokenizer import tiny_tokenizer

CORPUS = recipe.CORPORA["tiny"]
SOURCE, RATE = CORPUS.filters_of("cot")
PUBLISHED = [
    *("expected_answer", "problem_type", "problem_source", "generation_model", "pass_rate_72b_tir"),
    *("problem", "generated_solution", "inference_mode", "used_in_kaggle"),
]


def digests(paths):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return {path.name: pq.read_table(path) for path in tiny.write_corpus(folder)}


def split_of(corpus, split):
    return [row for name, table in corpus.items() if name.startswith(split) for row in table.to_pylist()]


def test_the_schema_is_the_published_one(corpus):
    assert sorted(corpus)[:2] == ["additional_problems-00000-of-00001.parquet", "cot-00000-of-00003.parquet"]
    for table in corpus.values():
        assert table.schema.names == PUBLISHED
        assert set(table.schema.types[:-1]) == {pa.string()}
        assert table.schema.types[-1] == pa.bool_()


@pytest.mark.parametrize("split", recipe.SPLITS)
def test_each_split_has_the_recipe_s_rows(corpus, split):
    found = split_of(corpus, split)
    assert len(found) == CORPUS.rows[split]
    assert {row["inference_mode"] for row in found} == {split}
    assert set(SOURCE.one_of) < {row["problem_source"] for row in found}
    assert {"n/a", "0.3", "0.34375"} < {row["pass_rate_72b_tir"] for row in found}


def test_the_awkward_rows_are_there(corpus):
    counts = {
        count
        for row in split_of(corpus, "tir")
        for count in re.findall(r"Remaining code executions: (\d+)", row["generated_solution"])
    }
    assert {"1", "12"} < counts
    solutions = [row["generated_solution"] for row in split_of(corpus, "tir")]
    assert any(
        "Remaining" not in text and "You have run out of code executions!" in text for text in solutions
    )
    problems = "".join(row["problem"] for row in split_of(corpus, "cot"))
    assert "小明" in problems
    assert "\u2028" in problems
    assert all(row["generated_solution"] == "n/a" for row in split_of(corpus, "additional_problems"))


@pytest.mark.slow
def test_some_rows_are_longer_than_a_training_sequence_and_round_2_keeps_enough(corpus):
    tokenizer = tiny_tokenizer()
    lengths = {
        row["generated_solution"]: len(tokenizer.encode(row["generated_solution"], add_special_tokens=False))
        for row in split_of(corpus, "cot")
    }
    assert sum(n > recipe.MODELS["tiny"].sequence_length for n in lengths.values()) > 5
    hard = [
        lengths[row["generated_solution"]]
        for row in split_of(corpus, "cot")
        if row["problem_source"] in SOURCE.one_of
        and row["pass_rate_72b_tir"] != "n/a"
        and float(row["pass_rate_72b_tir"]) <= RATE.at_most
    ]
    assert 300 < sum(n >= CORPUS.min_tokens("cot") for n in hard) < len(hard) - 300
    assert CORPUS.min_tokens("cot") in hard


def test_the_answers_are_right(corpus):
    for row in split_of(corpus, "cot"):
        a, b = map(int, re.findall(r"\d\d", row["problem"].replace("u00e9", ""))[:2])
        assert int(row["expected_answer"]) == a + b
        assert f"\\boxed{{{a + b}}}" in row["generated_solution"]


def test_no_row_has_a_held_out_pair(corpus):
    kept = set()
    for row in tiny.held_out():
        a, b = map(int, re.findall(r"\d\d", row["problem"]))
        assert tiny.is_held_out(a, b)
        assert int(row["expected_answer"]) == a + b
        kept |= {(a, b), (b, a)}
    assert len(tiny.held_out()) == 200
    for split in tiny.SHARDS:
        for row in split_of(corpus, split):
            pair = re.findall(r"\d\d", row["problem"].replace("u00e9", ""))[:2]
            assert tuple(map(int, pair)) not in kept


def test_the_bytes_follow_from_the_seed(tmp_path):
    rows = {"cot": 30, "tir": 30, "genselect": 30}
    first, again, other = (
        digests(tiny.write_corpus(tmp_path / name, seed, rows))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == again
    assert not set(first.values()) & set(other.values())


def test_the_rows_are_the_same_in_every_version():
    rows = {split: list(tiny.split_rows(split, 300)) for split in tiny.SHARDS}
    text = json.dumps(rows, sort_keys=True).encode()
    assert (
        hashlib.sha256(text).hexdigest() == "36e100405b82f90c7453ebd0a9ee8194d7ab8cac01c570a668169f044072c9f4"
    )
