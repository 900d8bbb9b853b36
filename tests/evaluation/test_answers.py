"""Answers by transformers, of a tiny model."""

import json

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
