"""The last station: what is written, from what was there."""

import json
import shutil

import pytest

from omr import recipe
from omr.errors import OmrError
from omr.models import tokens
from omr.models.final import card, finish
from omr.run import frozen
from omr.workspace import RunFolder

CHAT = recipe.Chat()


@pytest.fixture
def step(trained_once, tmp_path):
    """A converted step to finish, and its tokens."""
    workspace, run = trained_once
    folder = tmp_path / "final"
    shutil.copytree(workspace.run(run).hf_step(run.schedule.averaged[-1]), folder)
    return folder, tokens.token_ids(folder)


def read(folder, name):
    return json.loads((folder / name).read_text())


BOTH = ["<|im_end|>", "<|endoftext|>"]
BASES = [
    ("one end, as in the base", {"eos_token_id": "<|endoftext|>"}, ["<|im_end|>", "<|endoftext|>"]),
    (
        "a list of both, as round 1 left it",
        {"eos_token_id": BOTH},
        BOTH,
    ),
    ("the other order", {"eos_token_id": ["<|endoftext|>", "<|im_end|>"]}, ["<|im_end|>", "<|endoftext|>"]),
    ("none", {"eos_token_id": None}, ["<|im_end|>"]),
]


@pytest.mark.parametrize(("before", "ends"), [b[1:] for b in BASES], ids=[b[0] for b in BASES])
def test_end_tokens(step, before, ends):
    folder, known = step
    said = before["eos_token_id"]
    ids = [known[t] for t in said] if isinstance(said, list) else known.get(said)
    config = read(folder, "config.json")
    (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": ids}))
    finish.settle(folder, CHAT, 1024)
    wanted = [known[token] for token in ends]
    assert read(folder, "config.json") == {**config, "eos_token_id": wanted}, "and nothing else"
    assert read(folder, "generation_config.json")["eos_token_id"] == wanted
    assert read(folder, "tokenizer_config.json")["eos_token"] == "<|im_end|>"


GENERATION = [
    (
        {"max_new_tokens": 2048, "bos_token_id": 1, "do_sample": False},
        {"bos_token_id": 1, "do_sample": False},
    ),
    ({"max_length": 20, "temperature": 0.7, "do_sample": True}, {"temperature": 0.7, "do_sample": True}),
    ({"trust_remote_code": True, "top_k": 20}, {"top_k": 20}),
    (None, {}),
]


@pytest.mark.parametrize(("before", "kept"), GENERATION)
def test_generation_config(step, before, kept):
    folder, known = step
    path = folder / "generation_config.json"
    path.unlink() if before is None else path.write_text(json.dumps(before))
    finish.settle(folder, CHAT, 1024)
    ends = [known["<|im_end|>"], known["<|endoftext|>"]]
    pad = known["<|endoftext|>"]
    wanted = {**kept, "max_new_tokens": 1024, "eos_token_id": ends, "pad_token_id": pad}
    assert read(folder, path.name) == wanted


def test_every_home_of_end_token_and_template(step):
    folder, _ = step
    (folder / "special_tokens_map.json").write_text(
        '{"eos_token": {"content": "<|endoftext|>"}, "pad_token": "x"}'
    )
    finish.settle(folder, CHAT, 1024)
    assert read(folder, "special_tokens_map.json") == {"eos_token": "<|im_end|>", "pad_token": "x"}
    assert (folder / "chat_template.jinja").read_text() == CHAT.template
    assert read(folder, "tokenizer_config.json")["chat_template"] == CHAT.template


def test_settled_twice_is_settled_once(step):
    folder, _ = step
    finish.settle(folder, CHAT, 1024)
    once = {p.name: p.read_bytes() for p in folder.iterdir()}
    finish.settle(folder, CHAT, 1024)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == once


def test_a_tokenizer_without_the_trained_end(step):
    folder, _ = step
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace("<|im_end|>", "<|other|>"))
    with pytest.raises(OmrError, match=r"tokenizer\.json: has no <\|im_end\|>"):
        finish.settle(folder, CHAT, 1024)


CHATS = [
    ([("user", "x")], "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nx<|im_end|>\n"),
    ([("system", "s"), ("user", "x")], "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nx<|im_end|>\n"),
    ([("system", ""), ("user", "x")], "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nx<|im_end|>\n"),
    (
        [("user", " x\n\n"), ("assistant", "{{ y }}"), ("user", "<|im_end|>")],
        "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n x\n\n<|im_end|>\n"
        "<|im_start|>assistant\n{{ y }}<|im_end|>\n<|im_start|>user\n<|im_end|><|im_end|>\n",
    ),
]


@pytest.mark.parametrize(("chat", "text"), CHATS)
def test_the_template(step, chat, text):
    from transformers import AutoTokenizer

    folder, _ = step
    finish.settle(folder, CHAT, 1024)
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    messages = [{"role": role, "content": content} for role, content in chat]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == text
    asked = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert asked == text + "<|im_start|>assistant\n"


EPSILON = "policy: {{megatron_cfg: {{layernorm_epsilon: {}}}}}"


@pytest.mark.parametrize(
    ("model", "engine", "recipe_s", "file", "said"),
    [
        ("7b", "nemo-rl", 1e-6, None, []),
        ("14b", "nemo-rl", 1e-6, None, ["epsilon of 1e-06, used with 1e-05, its config.json's"]),
        ("32b", "nemo-rl", 1e-6, "1.0e-06", ["epsilon of 1e-06, used with 1e-05, its config.json's"]),
        ("14b", "nemo-rl", None, None, []),  # the one word: each with its own
        ("14b", "nemo-rl", 1e-6, "1.0e-05", []),  # by OVERRIDES
        ("7b", "nemo-rl", 1e-6, "1e-5", ["epsilon of 1e-05, used with 1e-06, its config.json's"]),
        ("14b", "trl", 1e-6, None, []),  # trains with config.json's
        ("tiny", "trl", 1e-6, None, []),
    ],
)
def test_what_a_model_is_used_with_other_than_it_was_trained_with(
    tmp_path, monkeypatch, model, engine, recipe_s, file, said
):
    monkeypatch.setattr(recipe, "TRAINED_EPSILON", recipe_s)
    folder = RunFolder(tmp_path)
    if file:
        folder.engine_yaml("nemo-rl").write_text(EPSILON.format(file))
    found = finish.departures(recipe.run(model), engine, folder)
    assert [line.removeprefix("trained with an RMSNorm ") for line in found] == said


@pytest.mark.parametrize("text", ["a: [", "policy: 7", EPSILON.format("null")])
def test_a_damaged_file_of_the_engine_is_named(tmp_path, text):
    folder = RunFolder(tmp_path)
    folder.engine_yaml("nemo-rl").write_text(text)
    with pytest.raises(OmrError, match=r"nemo_rl\.yaml: is damaged .*; move it away"):
        finish.departures(recipe.run("14b"), "nemo-rl", folder)


def test_the_card_tells_a_known_departure(trained_once):
    workspace, run = trained_once
    began = frozen.need(run, workspace.run(run))
    assert "| Known departure | x; y |" in card.text(began, {}, [1], ["x", "y"])
    assert "Known departure" not in card.text(began, {}, [1])
    splits = {"cot": {"dropped": {"DROP": 1200, "source": 9}}, "tir": {"dropped": {}}}
    assert "| Rows left out | 1,200, by a list (DROP) |" in card.text(began, {"splits": splits}, [1])
    assert "Rows left out" not in card.text(began, {"splits": {"tir": splits["tir"]}}, [1])
