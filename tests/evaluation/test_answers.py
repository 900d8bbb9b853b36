"""Answers by transformers, of a tiny model."""

import json
import re

import pytest

from omr.errors import OmrError
from omr.evaluation.answers import generate, load_tokenizer
from omr.tiny.model import write_base


def test_an_answer_stops_at_any_of_the_model_s_ends(tmp_path):
    folder = tmp_path
    write_base(folder)
    tokenizer = load_tokenizer(folder)
    ((text, ended),) = next(generate(folder, ["1+1?"], 4, tokenizer, gpu=False))
    assert text
    assert not ended
    config = json.loads((folder / "generation_config.json").read_text())
    config["eos_token_id"] = list(range(512))
    (folder / "generation_config.json").write_text(json.dumps(config))
    assert next(generate(folder, ["1+1?"], 4, tokenizer, gpu=False)) == [("", True)]


def cut(folder):
    (folder / "model.safetensors").write_bytes(b"cut")


def no_tokenizer(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()


def one_layer_more(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (cut, "transformers cannot load it"),
        (no_tokenizer, "its tokenizer has no tokens; name a whole"),
        (one_layer_more, "its weights lack model.layers.2."),
    ],
)
def test_a_model_that_is_not_whole_is_asked_nothing(tmp_path, spoil, told):
    write_base(tmp_path)
    spoil(tmp_path)
    with pytest.raises(OmrError, match=f"^{re.escape(str(tmp_path))}: {told}") as refused:
        next(generate(tmp_path, ["1+1?"], 4, load_tokenizer(tmp_path), gpu=False))
    assert "\n" not in str(refused.value)
