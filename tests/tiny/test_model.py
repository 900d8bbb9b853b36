"""The tiny base model: laid out as the published one, the same bytes for a seed."""

import hashlib
import json
import subprocess
import sys

import pytest

from omr.tiny.model import write_base
from omr.tiny.tokenizer import tiny_tokenizer


def digests(paths):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_the_bytes_follow_from_the_seed(tmp_path):
    first, again, other = (
        digests(write_base(tmp_path / name, seed)) for name, seed in (("d", 0), ("e", 0), ("f", 1))
    )
    assert first == again
    assert {name for name in first if first[name] != other[name]} == {"model.safetensors"}


def test_the_files_are_the_same_in_every_version(base):
    """tokenizer.json is left out: the version of the tokenizers library decides its form."""
    names = ("model.safetensors", "config.json", "generation_config.json", "tokenizer_config.json")
    found = digests(base / name for name in names)
    assert {name: digest[:12] for name, digest in found.items()} == {
        "model.safetensors": "4d4f334ce7ca",
        "config.json": "fec7671499e2",
        "generation_config.json": "6a1bc4fc44a0",
        "tokenizer_config.json": "2853d6409d19",
    }


@pytest.mark.slow
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


@pytest.mark.slow
def test_neither_corpus_nor_base_needs_torch(tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\nfrom omr.tiny import corpus, model, tokenizer\n"
        f"corpus.write_corpus(Path({str(tmp_path / 'c')!r}), 0, {{'cot': 5, 'tir': 5, 'genselect': 5}})\n"
        f"model.write_base(Path({str(tmp_path / 'b')!r}))\ntokenizer.tiny_tokenizer()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
