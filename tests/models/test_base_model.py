"""`make model BASE=…` of folders that are not whole: each is refused in one line that names the fault.

Then fuzzers of config.json, generation_config.json and tokenizer_config.json, through all that reads them.
"""

import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omr import recipe
from omr.errors import OmrError, RequestError
from omr.models import base_model, passport, rope, weights
from omr.tiny import model as tiny_model
from omr.workspace import Workspace
from tests.models.kit import edit, no_download, write_shard

FUZZ = settings(max_examples=60, derandomize=True, deadline=None, database=None)
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
TINY = recipe.model("tiny")
WORDS = "; bring the published model: make model MODEL=tiny FORCE=1"
UP = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The tiny base as published, not to be changed."""
    folder = tmp_path_factory.mktemp("published")
    tiny_model.write_base(folder)
    return folder


@pytest.fixture
def base(published, tmp_path):
    """A copy of it to plant faults in."""
    return shutil.copytree(published, tmp_path / "base")


def made(base, tmp_path):
    return base_model.make(TINY, Workspace(tmp_path / "ws"), no_download, base=base)


def write(name, text):
    return lambda folder: (folder / name).write_text(text)


def reshape(change):
    """Write the weights again as `change` makes them of name -> (dtype, shape, bytes)."""

    def plant(folder):
        path = folder / "model.safetensors"
        part, data = weights.shard(path), path.read_bytes()
        stored = {t.name: (t.dtype, t.shape, data[t.start : t.end]) for t in part.tensors}
        change(stored)
        write_shard(path, stored)

    return plant


def head(flip):
    """An output head that is stored though it is tied: the embedding, or another matrix."""

    def change(stored):
        dtype, shape, data = stored["model.embed_tokens.weight"]
        stored["lm_head.weight"] = (dtype, shape, data[:-1] + bytes([data[-1] ^ flip]))

    return change


def half(stored):
    _, shape, data = stored[UP]
    stored[UP] = ("BF16", shape, data[: len(data) // 2])


def all_f16(stored):
    for name, (_, shape, data) in stored.items():
        stored[name] = ("F16", shape, data[: len(data) // 2])


def turned(stored):
    dtype, (rows, columns), data = stored[UP]
    stored[UP] = (dtype, (columns, rows), data)


CONFIG, GENERATION, TOKENS = "config.json", "generation_config.json", "tokenizer_config.json"
# What is planted -> the file that the line names, and what it says of it.
REFUSED = {
    "a layer more in the configuration": (
        edit(CONFIG, num_hidden_layers=3),
        "config.json: num_hidden_layers is 3, omr/tiny/model.py says 2",
    ),
    "a layer fewer in the configuration": (edit(CONFIG, num_hidden_layers=1), "num_hidden_layers is 1"),
    "layers without end": (edit(CONFIG, num_hidden_layers=10**12), "num_hidden_layers is 1000000000000"),
    "a tensor is missing": (
        reshape(lambda t: t.pop(UP)),
        f"the weights: {UP} is absent, omr/tiny/model.py says [256, 96]: a loader fills it with",
    ),
    "a tensor too many": (
        reshape(lambda t: t.update({"model.layers.2.x": t["model.norm.weight"]})),
        "model.safetensors: model.layers.2.x is [96], omr/tiny/model.py says none: a loader drops it",
    ),
    "a tensor that is turned": (reshape(turned), f"model.safetensors: {UP} is [96, 256]"),
    "a tensor of another type": (
        reshape(half),
        f"model.safetensors: {UP} is BF16, config.json says F32: loading rounds",
    ),
    "a vector for an embedding": (
        reshape(lambda t: t.update({"model.embed_tokens.weight": ("F32", (49152,), bytes(4 * 49152))})),
        "model.embed_tokens.weight is [49152]",
    ),
    "a name that leaves the folder": (
        reshape(lambda t: t.update({"../../x": t["model.norm.weight"]})),
        "model.safetensors: ../../x is [96], omr/tiny/model.py says none",
    ),
    "a tied head that differs": (
        reshape(head(1)),
        "model.safetensors: lm_head.weight is another matrix than the embedding",
    ),
    "other types in weights and configuration": (
        lambda folder: (reshape(all_f16)(folder), edit(CONFIG, torch_dtype="float16")(folder)),
        "the weights: weights is F16, omr/tiny/model.py says F32",
    ),
    "a link to nothing": (
        lambda folder: ((folder / GENERATION).unlink(), (folder / GENERATION).symlink_to("gone")),
        "generation_config.json: is a link to nothing, or no file; put the file itself there, or make model",
    ),
    "quantised": (
        edit(CONFIG, quantization_config={"quant_method": "awq", "bits": 4}),
        "config.json: quantization_config is {'quant_method': 'awq', 'bits': 4}, omr/tiny/model.py says none:"
        " the recipe trains plain weights",
    ),
    "a sliding window": (edit(CONFIG, use_sliding_window=True), "use_sliding_window is True"),
    "another norm": (edit(CONFIG, rms_norm_eps=1e-5), "rms_norm_eps is 1e-05, omr/tiny/model.py says 1e-06"),
    "another activation": (edit(CONFIG, hidden_act="gelu"), "hidden_act is gelu"),
    "other heads": (edit(CONFIG, num_attention_heads=12), "num_attention_heads is 12"),
    "scaled rope": (edit(CONFIG, rope_scaling={"type": "yarn", "factor": 4.0}), "rope_scaling.type is yarn"),
    "code in the tokenizer": (
        edit(TOKENS, auto_map={"AutoTokenizer": ["x--y.Z", None]}),
        "tokenizer_config.json: auto_map is",
    ),
    "two types": (edit(CONFIG, dtype="bfloat16"), "config.json says bfloat16 or float32"),
    "two classes": (edit(CONFIG, architectures=["Qwen2ForCausalLM", "X"]), "architecture is ['Qwen2For"),
    "a class that is none": (edit(CONFIG, architectures={"a": 1}), "architecture is {'a': 1}"),
    "NaN": (write(CONFIG, '{"rms_norm_eps": NaN}'), "config.json: is not JSON (NaN is no number)"),
    "nested without end": (write(CONFIG, "[" * 100_000), "config.json: is not JSON"),
    "a key twice": (write(CONFIG, '{"vocab_size": 512, "vocab_size": 513}'), "has vocab_size twice"),
    "a nested key twice": (write(CONFIG, '{"a": {"b": 1, "b": 1}}'), "has b twice"),
    "no object": (write(CONFIG, "[]"), "config.json: is no JSON object"),
    "other bytes": (lambda folder: (folder / CONFIG).write_bytes(b"\xff"), "config.json: is not JSON"),
    "a word that transformers does not take": (
        edit(CONFIG, initializer_range="x"),
        "config.json: transformers 5",
    ),
    "context as a fraction": (
        edit(CONFIG, max_position_embeddings=4096.0),
        "max_position_embeddings is 4096.0",
    ),
    "end tokens that are none": (edit(CONFIG, eos_token_id=[None, "x"]), "eos_token_id is [None, 'x'], the"),
    "an end token beyond the embedding": (edit(CONFIG, eos_token_id=10**30), "eos_token_id is [1000"),
    "true as a padding token": (edit(CONFIG, pad_token_id=True), "pad_token_id is True"),
    "generation's end is an object": (
        edit(GENERATION, eos_token_id={"a": 1}),
        "generation_config.json: eos_token_id is {'a': 1}",
    ),
    "generation's padding is a list": (edit(GENERATION, pad_token_id=[[1]]), "pad_token_id is [[1]]"),
    "generation's length is a word": (
        edit(GENERATION, max_new_tokens="many"),
        "generation_config.json: transformers 5",
    ),
    "generation is a list": (write(GENERATION, "[]"), "generation_config.json: is no JSON object"),
    "generation has a key twice": (write(GENERATION, '{"a": {"b": 1, "b": 2}}'), "json: has b twice"),
    "the tokenizer's end is a list": (edit(TOKENS, eos_token=["x"]), "eos_token is no text (['x'])"),
    "the tokenizer's padding is a number": (
        edit(TOKENS, pad_token=3),
        "tokenizer_config.json: pad_token is no text (3)",
    ),
    "a template that is none": (
        edit(TOKENS, chat_template=3),
        "tokenizer_config.json: chat_template is no text",
    ),
    "no model in the tokenizer": (edit("tokenizer.json", model=None), "tokenizer.json: has no table"),
    "a tokenizer that no library takes": (
        edit("tokenizer.json", decoder={"type": "?"}),
        "tokenizer.json: trans",
    ),
    **{
        f"git-lfs left a pointer for {name}": (write(name, POINTER), f"{name}: is a git-lfs pointer in place")
        for name in (
            CONFIG,
            GENERATION,
            TOKENS,
            "tokenizer.json",
            "model.safetensors",
            "merges.txt",
            "vocab.json",
        )
    },
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.slow
def test_a_base_that_is_refused(base, tmp_path, name):
    plant, line = REFUSED[name]
    plant(base)
    with pytest.raises(OmrError) as error:
        made(base, tmp_path)
    assert line in str(error.value) and str(error.value).isprintable() and len(str(error.value)) < 500
    assert not (tmp_path / "ws/models/tiny").exists()


def test_the_line_counts_the_other_faults_and_says_how_to_mend_them(base, tmp_path):
    edit(CONFIG, num_hidden_layers=3, hidden_act="gelu")(base)
    with pytest.raises(OmrError) as error:
        made(base, tmp_path)
    assert str(error.value).endswith(f"another model is computed than the published one (and 1 more){WORDS}")
    assert base_model.make(TINY, Workspace(tmp_path / "ws"), no_download, force=True)["tensors"] == 26


def test_a_tied_head_that_is_equal_is_accepted_and_said(base, tmp_path):
    assert "lm_head" not in base_model.summary(made(base, tmp_path))
    reshape(head(0))(base)
    again = base_model.make(TINY, Workspace(tmp_path / "again"), no_download, base=base)
    assert base_model.summary(again).endswith(
        "rope_theta 10000 -> 500000.0; lm_head.weight is stored, equal to the embedding that it is tied to"
    )


def test_hidden_files_are_not_copied(base, tmp_path):
    names = {path.name for path in base.iterdir()}
    for name in ("._model.safetensors", "._config.json", ".cache.bin", "._modeling.py"):
        (base / name).write_bytes(b"\0\5\x16\7")
    made(base, tmp_path)
    there = {path.name for path in (tmp_path / "ws/models/tiny").iterdir()}
    assert there == {*names, "manifest.json"}


def test_what_an_earlier_try_left_is_no_base(base, tmp_path):
    left = tmp_path / "ws/models/.tiny.partial"
    shutil.copytree(base, left)
    with pytest.raises(RequestError, match=r"is what an earlier try left; unset BASE"):
        made(left, tmp_path)
    assert (left / "model.safetensors").exists()


def test_another_source_is_refused_with_advice_that_make_model_takes(base, tmp_path):
    base_model.make(TINY, Workspace(tmp_path / "ws"), no_download)
    with pytest.raises(RequestError, match=r"source\.copy was None.*; FORCE=1 makes it anew$"):
        made(base, tmp_path)


@pytest.mark.parametrize("spelling", ["layer_types", "window of null", "head_dim"])
def test_a_base_saved_again_is_accepted(base, tmp_path, spelling):
    keys = {
        "layer_types": {"layer_types": ["full_attention"] * 2},
        "window of null": {"sliding_window": None, "max_window_layers": 0},
        "head_dim": {"head_dim": 16},
    }
    edit(CONFIG, **keys[spelling])(base)
    assert made(base, tmp_path)["tensors"] == 26


LEAF = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 4),
    st.sampled_from([10**30, -(10**30), 1e308, 0.5, 4096, 10000, 512, "silu", "qwen2", "float32", "default"]),
    st.text(max_size=4),
)
KEYS = st.sampled_from(["rope_theta", "rope_type", "content", "id", "name", "template", "a"])
VALUE = st.recursive(LEAF, lambda each: st.lists(each, max_size=3) | st.dictionaries(KEYS, each, max_size=3))
MORE = (
    *("rope_parameters", "rope_scaling", "layer_types", "head_dim", "dtype", "pad_token_id", "auto_map"),
    *("quantization_config", "attention_bias", "partial_rotary_factor", "is_causal", "chat_template", "x\ny"),
)


def refused_or_read(folder):
    """All that `make model` does with a folder's files; whether they were refused, in one line."""
    try:
        passport.check(folder, TINY, "published")
        rope.patch(folder / CONFIG, TINY)
        rope.prove(folder, TINY)
        passport.check(folder, TINY, "patched")
        rope.write_both(folder, TINY)
    except OmrError as error:
        line = str(error)
        assert line.isprintable() and len(line) < len(str(folder)) + 500, line
        return True
    return False


@pytest.fixture(scope="module")
def spare(published, tmp_path_factory):
    """A copy for the fuzzers, and its texts."""
    folder = shutil.copytree(published, tmp_path_factory.mktemp("fuzz") / "base")
    return folder, {path.name: path.read_text() for path in folder.glob("*.json")}


@pytest.mark.parametrize("name", [CONFIG, GENERATION, TOKENS])
@FUZZ
@given(data=st.data())
@pytest.mark.slow
def test_any_value_of_any_key_is_refused_in_one_line_or_right(spare, name, data):
    folder, texts = spare
    known = json.loads(texts[name])
    keys = data.draw(st.dictionaries(st.sampled_from([*known, *MORE]), VALUE, min_size=1, max_size=2))
    for other, text in texts.items():
        (folder / other).write_text(text)
    (folder / name).write_text(json.dumps({**known, **keys}))
    refused_or_read(folder)


# Keys of the published file on which nothing depends that this toolkit or training computes.
INERT = {"bos_token_id", "initializer_range", "max_window_layers", "sliding_window", "transformers_version"}
INERT |= {"use_cache"}
# Keys whose absence means the published value.
DEFAULT = INERT | {"attention_dropout", "hidden_act", "rms_norm_eps", "use_mrope", "use_sliding_window"}


@pytest.mark.slow
def test_every_key_absent_doubled_of_another_type_and_huge(spare):
    """Each is refused in one line, where it is not without any effect."""
    folder, texts = spare
    config = json.loads(texts[CONFIG])

    def refused(text):
        for other, right in texts.items():
            (folder / other).write_text(right)
        (folder / CONFIG).write_text(text)
        return refused_or_read(folder)

    assert not refused(texts[CONFIG])
    for key in config:
        rest = {k: v for k, v in config.items() if k != key}
        assert refused(json.dumps(rest)) == (key not in DEFAULT), f"{key} absent"
        for value in ([[]], {"a": None}, 10**400, "?"):
            assert refused(json.dumps({**config, key: value})) or key in INERT, f"{key}: {value}"
        line = f'  "{key}": {json.dumps(config[key])},\n'
        assert refused(texts[CONFIG].replace("{\n", "{\n" + line, 1)), f"{key} doubled"
