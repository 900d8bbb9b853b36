"""The rows of `make data` are the recipe's: against a plain reading of it, and against nemo-skills itself."""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from bench import corpus, seeds_way
from omr import recipe
from omr.data import prompts
from omr.tiny.tokenizer import tiny_tokenizer
from tests.data.awkward import ENDINGS, RATES, TEXTS
from tests.data.kit import make, process

ROUNDS = ("round1", "round2", "round2-paper")


def words_of(round_key):
    row = recipe.ROUNDS[round_key]
    return ("--round", row.number, *(("--variant", row.variant) if row.variant else ()))


def lines(path):
    with Path(path).open(encoding="utf-8", newline="\n") as handle:
        return [json.loads(line) for line in handle]


def multiset(rows):
    """Rows as text with their keys in order, counted."""
    return Counter(json.dumps(row) for row in rows)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workspace")
    for round_key in ROUNDS:
        make(folder, "--dataset", "tiny", *words_of(round_key))
    return folder


def plain(row, prompt, tokenizer, split):
    """The recipe's formatting, said again in the plainest way."""
    template = "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n"
    values = {"problem": row["input"], "examples": ""}
    if split == "tir":
        left = row["output"].partition("Remaining code executions: ")[2]
        values["total_code_executions"] = int(left.lstrip()[0]) + 1 if left else 1
    row["input"] = template % prompt.format(**values)
    row["output"] = row["output"] + "<|im_end|>\n"
    return row


def stays(row, split, tokenizer):
    """The recipe's filter, said again."""
    olympiad = row["problem_source"].startswith(("aops_c5_contests_amp", "aops_c6_high_school_olymp"))
    easy = row["pass_rate_72b_tir"] == "n/a" or not float(row["pass_rate_72b_tir"]) <= 0.3
    long = split == "genselect" or len(tokenizer.encode(row["output"])) >= recipe.CORPORA["tiny"].min_tokens(
        "cot"
    )
    return olympiad and not easy and long


@pytest.mark.parametrize("round_key", ROUNDS)
@pytest.mark.slow
def test_the_tiny_corpus_row_by_row(workspace, round_key, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    import yaml

    datasets.disable_progress_bars()
    tokenizer, expected = tiny_tokenizer(), []
    for split in recipe.SPLITS:
        name = recipe.CORPORA["tiny"].prompts[split].config
        prompt = (
            yaml.safe_load((prompts.config_file(recipe.CORPORA["tiny"], name)).read_text())["user"]
            if name
            else "{problem}"
        )
        shards = sorted(str(path) for path in (workspace / "raw/tiny/data").glob(f"{split}-*"))
        data = datasets.Dataset.from_parquet(shards, cache_dir=str(tmp_path))
        data = data.rename_columns({"problem": "input", "generated_solution": "output"})
        if split in recipe.ROUNDS[round_key].filtered:
            data = data.filter(partial(stays, split=split, tokenizer=tokenizer))
        expected += data.map(partial(plain, prompt=prompt, tokenizer=tokenizer, split=split)).to_list()
    got = lines(workspace / f"data/tiny-{round_key}.jsonl")
    assert len(got) == len(expected) > 1000
    assert multiset(got) == multiset(expected)


GOOD_ENDINGS = [ending for ending, count in ENDINGS.items() if count]


def real_rows(split, count, seed=0):
    """Published columns with everything awkward in them; in every twelfth olympiad row about 5,000 tokens."""
    dice, maker = random.Random(f"{split}{seed}"), corpus.Maker(seed)
    for number in range(count):
        row = maker.row(split)
        row["generated_solution"] = maker.text(1_500)
        row["problem"] = maker.text(200)
        row["pass_rate_72b_tir"] = dice.choice(list(RATES))
        if number % 3 == 0:
            row["problem"] = "".join(dice.choices(TEXTS, k=3))
            row["generated_solution"] += "".join(dice.choices(TEXTS, k=3))
        if number % 3 == 1:
            row["expected_answer"], row["problem_type"] = dice.choice(TEXTS), dice.choice(TEXTS)
        if number % 4 == 2:
            row["problem_source"] = "aops_c6_high_school_olympiads"
            row["generated_solution"] += " " + maker.text(15_500, 0.05)
        if number % 11 == 5:
            row["problem_source"], row["pass_rate_72b_tir"] = (
                "MATH_training_set",
                "no number, and nobody asks",
            )
        if split == "tir":
            row["generated_solution"] += dice.choice(GOOD_ENDINGS)
        yield row


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Raw rows of every split and the tokenizer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("real")
    (folder / "raw/data").mkdir(parents=True)
    for split, count in {"cot": 4000, "tir": 4000, "genselect": 3000}.items():
        table = pa.Table.from_pylist(list(real_rows(split, count)))
        for shard in range(2):
            part = table.slice(shard * count // 2, count // 2)
            pq.write_table(part, folder / f"raw/data/{split}-{shard:05}-of-00002.parquet", row_group_size=700)
    corpus.tokenizer(folder / "tokenizer")
    return folder


@pytest.mark.nemo
@pytest.mark.slow
@pytest.mark.parametrize("round_key", ROUNDS)
def test_against_nemo_skills(real, round_key, tmp_path, monkeypatch):
    """The published script with the installed library, on thousands of rows of every kind."""
    pytest.importorskip("nemo_skills")
    pytest.importorskip("datasets").disable_progress_bars()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    tokenizer = real / "tokenizer"
    words = ("--raw", real / "raw", "--allow", "rows")
    words += ("--tokenizer", tokenizer, "--length_tokenizer", tokenizer)
    process(tmp_path / "ours", *words, *words_of(round_key))
    command = [
        sys.executable,
        seeds_way.__file__,
        real / "raw",
        tmp_path / "seed",
        round_key,
        tokenizer,
        tokenizer,
    ]
    environ = {**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    subprocess.run(command, env=environ, check=True, capture_output=True)
    expected = lines(tmp_path / "seed/omr-all.jsonl")
    got = lines(tmp_path / f"ours/data/openmathreasoning-{round_key}.jsonl")
    assert len(got) == len(expected) > 300
    assert multiset(got) == multiset(expected)
    kinds = Counter(row["inference_mode"] for row in got)
    assert min(kinds[split] for split in recipe.SPLITS) > 50, kinds
