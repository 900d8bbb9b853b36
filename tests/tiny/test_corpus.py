"""The tiny corpus and base model: the published shapes, the awkward rows, the same bytes for a seed."""

import hashlib
import json
import re
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omr import recipe
from omr.tiny import corpus as tiny
from omr.tiny.model import write_base
from omr.tiny.tokenizer import END_OF_TEXT, tiny_tokenizer

CORPUS = recipe.CORPORA["tiny"]
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


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    write_base(folder)
    return folder


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
    assert set(CORPUS.olympiad_sources) < {row["problem_source"] for row in found}
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
        if row["problem_source"] in CORPUS.olympiad_sources
        and row["pass_rate_72b_tir"] != "n/a"
        and float(row["pass_rate_72b_tir"]) <= CORPUS.max_pass_rate
    ]
    assert 300 < sum(n >= CORPUS.min_tokens for n in hard) < len(hard) - 300
    assert CORPUS.min_tokens in hard


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
    first, again, other = (
        digests(write_base(tmp_path / name, seed)) for name, seed in (("d", 0), ("e", 0), ("f", 1))
    )
    assert first == again
    assert {name for name in first if first[name] != other[name]} == {"model.safetensors"}


@pytest.mark.parametrize(
    ("messages", "prompt", "text"),
    [
        (
            [{"role": "system", "content": ""}, {"role": "user", "content": "1+1?"}],
            True,
            "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
            False,
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nx<|im_end|>\n"
            "<|im_start|>assistant\ny<|im_end|>\n",
        ),
    ],
)
def test_the_chat_template_is_chatml_with_a_system_message_of_its_own(messages, prompt, text):
    shown = tiny_tokenizer().apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
    assert shown == text


TEXTS = [
    "7+8=15, so 5 and carry 1. The sum is \\boxed{95}.<|im_end|>\n",
    "Zoë  has\u2028 小明 \t}\n\n <tool_call>\nprint(1)\n</tool_call>",
    "x" * 3000,
    "",
]


@pytest.mark.parametrize("text", TEXTS)
def test_text_survives_the_tokenizer_and_transformers_reads_the_same_one(base, text):
    from transformers import AutoTokenizer

    ours, theirs = tiny_tokenizer(), AutoTokenizer.from_pretrained(base)
    ids = ours.encode(text, add_special_tokens=False)
    assert ours.decode(ids) == text
    assert theirs.encode(text) == ids
    assert theirs.eos_token == END_OF_TEXT
    assert theirs.chat_template == ours.chat_template


def test_the_base_loads_and_says_its_limits_as_the_published_one_does(base):
    from transformers import AutoModelForCausalLM

    text = (base / "config.json").read_text()
    assert '  "max_position_embeddings": 4096,\n' in text
    assert '  "rope_theta": 10000,\n' in text
    model = AutoModelForCausalLM.from_pretrained(base)
    assert 0.15e6 < model.num_parameters() < 0.3e6
    assert len(tiny_tokenizer()) <= json.loads(text)["vocab_size"]
    assert model.config.eos_token_id == tiny_tokenizer().eos_token_id
    # A tensor that were missing or misnamed would have been made anew at random, unlike the file's.
    from safetensors.torch import load_file

    stored, loaded = load_file(base / "model.safetensors"), model.state_dict()
    assert set(loaded) - set(stored) == {"lm_head.weight"}
    assert all(tensor.equal(loaded[name]) for name, tensor in stored.items())


def test_neither_corpus_nor_base_needs_torch(tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\nfrom omr.tiny import corpus, model, tokenizer\n"
        f"corpus.write_corpus(Path({str(tmp_path / 'c')!r}), 0, {{'cot': 5, 'tir': 5, 'genselect': 5}})\n"
        f"model.write_base(Path({str(tmp_path / 'b')!r}))\ntokenizer.tiny_tokenizer()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
