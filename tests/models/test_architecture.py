"""The table of tensors against transformers' own Qwen2; published configurations, and what is none."""

import json
from dataclasses import asdict, replace

import pytest

from omr import recipe
from omr.models import architecture, passport
from omr.models.weights import Tensor
from omr.tiny import model as tiny_model

# What the four config.json have, beside the recipe's numbers; source: the hub at the pinned revisions.
CONTEXT = {
    "1.5b": {"max_position_embeddings": 4096, "rope_theta": 10000, "max_window_layers": 21},
    "7b": {"max_position_embeddings": 4096, "rope_theta": 10000, "max_window_layers": 28},
    "14b": {"max_position_embeddings": 131072, "rope_theta": 1000000.0, "max_window_layers": 48},
    "32b": {"max_position_embeddings": 131072, "rope_theta": 1000000.0, "max_window_layers": 64},
}
NUMBERS = {
    "1.5b": (1536, 28, 12, 2, 8960, 151936, True, 1e-6),
    "7b": (3584, 28, 28, 4, 18944, 152064, False, 1e-6),
    "14b": (5120, 48, 40, 8, 13824, 152064, False, 1e-5),
    "32b": (5120, 64, 40, 8, 27648, 152064, False, 1e-5),
}
ROWS = [*NUMBERS, "tiny"]
BOTH = [*ROWS, *(f"{name} tied otherwise" for name in ROWS)]


def published(name):
    """A row's config.json as its repository has it, written by transformers 4.4x."""
    hidden, layers, heads, kv_heads, inner, vocabulary, tied, epsilon = NUMBERS[name]
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": 151643,
        "eos_token_id": 151643,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": inner,
        **CONTEXT[name],
        "model_type": "qwen2",
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "num_key_value_heads": kv_heads,
        "rms_norm_eps": epsilon,
        "sliding_window": CONTEXT[name]["max_position_embeddings"],
        "tie_word_embeddings": tied,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.44.0",
        "use_cache": True,
        "use_mrope": False,
        "use_sliding_window": False,
        "vocab_size": vocabulary,
    }


def resaved_by_4(config):
    """As transformers 4.57 spells it: the window goes, each layer has its type, the type a new name."""
    layers = {"layer_types": ["full_attention"] * config["num_hidden_layers"], "rope_scaling": None}
    same = {key: value for key, value in config.items() if key != "torch_dtype"}
    return {**same, **layers, "dtype": config["torch_dtype"], "sliding_window": None}


def resaved_by_5(config, folder):
    """As the installed transformers 5 writes it."""
    from transformers import AutoConfig

    (folder / "config.json").write_text(json.dumps(config))
    AutoConfig.from_pretrained(folder).save_pretrained(folder / "again")
    return json.loads((folder / "again/config.json").read_text())


def wanted(name):
    row = architecture.of(recipe.model(name.split()[0]))
    return replace(row, tied=not row.tied) if "otherwise" in name else row


def tensors(shapes, dtype="BF16"):
    return {name: Tensor("file", name, dtype, shape, 0, 0) for name, shape in shapes.items()}


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.slow
def test_the_table_is_transformers_own(name):
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    row = wanted(name)
    numbers = {key: asdict(row)[field] for key, field in architecture.SHAPE.items()}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(Qwen2Config(**numbers))
    # A tied head shares its matrix with the embedding: it is no tensor of its own, and saved none.
    theirs = {key: tuple(tensor.shape) for key, tensor in model.named_parameters()}
    assert architecture.tensors(row) == theirs
    assert not dict(model.named_buffers()).keys() & set(theirs)


def test_the_tiny_model_is_of_its_own_architecture():
    found = {name: array.shape for name, array in tiny_model.random_weights(0).items()}
    assert found == architecture.tensors(architecture.of(recipe.model("tiny")))
    assert architecture.of(recipe.model("micro")) == recipe.shipped("tiny").architectures["tiny"]
    assert set(recipe.ARCHITECTURES) == {*recipe.MODELS, "micro"}


@pytest.mark.slow
@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_published_is_accepted(name, tmp_path):
    """As published, patched or not, and as both versions of transformers save it again."""
    config, row = published(name), architecture.of(recipe.model(name))
    patched = {**config, "max_position_embeddings": 131072, "rope_theta": 500000.0}
    again = resaved_by_5(config, tmp_path)
    assert again["sliding_window"] is None and "rope_theta" not in again and "layer_types" in again
    for each in (config, patched, resaved_by_4(config), again, {**again, "rope_theta": 10000}):
        assert architecture.setting_differences(each, row) == []
        assert architecture.dtype(each) == "BF16"


def test_keys_that_the_default_stands_for_may_be_absent():
    config = published("32b")
    for key in ("use_sliding_window", "use_mrope", "tie_word_embeddings", "attention_dropout", "hidden_act"):
        del config[key]
    assert architecture.setting_differences(config, wanted("32b")) == []


# What is set in 7b's published config.json (None removes the key) -> what differs: key, found, wanted.
CHANGED = [
    ({"num_hidden_layers": 29}, ("num_hidden_layers", 29, 28)),
    ({"num_hidden_layers": 28.0}, ("num_hidden_layers", 28.0, 28)),
    ({"num_hidden_layers": 10**100}, ("num_hidden_layers", 10**100, 28)),
    ({"hidden_size": None}, ("hidden_size", "absent", 3584)),
    ({"num_attention_heads": 56}, ("num_attention_heads", 56, 28)),
    ({"num_key_value_heads": 28}, ("num_key_value_heads", 28, 4)),
    ({"tie_word_embeddings": True}, ("tie_word_embeddings", True, False)),
    ({"tie_word_embeddings": 0}, ("tie_word_embeddings", 0, False)),
    ({"rms_norm_eps": 1e-5}, ("rms_norm_eps", 1e-5, 1e-6)),
    ({"rms_norm_eps": "1e-6"}, ("rms_norm_eps", "1e-6", 1e-6)),
    ({"hidden_act": "gelu"}, ("hidden_act", "gelu", "silu")),
    ({"attention_dropout": 0.1}, ("attention_dropout", 0.1, 0.0)),
    ({"attention_dropout": False}, ("attention_dropout", False, 0.0)),
    ({"use_sliding_window": True}, ("use_sliding_window", True, False)),
    ({"head_dim": 64}, ("head_dim", 64, 128)),
    ({"layer_types": ["full_attention"] * 27}, ("layer_types", "27 full_attention", "28 full_attention")),
    (
        {"layer_types": ["full_attention"] * 27 + ["sliding_attention"]},
        ("layer_types", "27 full_attention, 1 sliding_attention", "28 full_attention"),
    ),
    ({"layer_types": []}, ("layer_types", "empty", "28 full_attention")),
    ({"layer_types": 3}, ("layer_types", "3", "28 full_attention")),
    ({"model_type": "llama"}, ("model_type", "llama", "qwen2")),
    ({"model_type": None}, ("model_type", "absent", "qwen2")),
    ({"is_causal": False}, ("is_causal", False, True)),
    ({"attention_bias": True}, ("attention_bias", True, "none")),
    ({"quantization_config": {"bits": 4}}, ("quantization_config", {"bits": 4}, "none")),
    ({"auto_map": {"AutoModel": "x--y.Z"}}, ("auto_map", {"AutoModel": "x--y.Z"}, "none")),
    ({"rope_scaling": {"type": "yarn"}}, ("rope_scaling.type", "yarn", "the plain rope")),
    ({"rope_scaling": "yarn"}, ("rope_scaling", "yarn", "the plain rope")),
    (
        {"rope_parameters": {"rope_theta": 10000, "partial_rotary_factor": 0.5}},
        ("rope_parameters.partial_rotary_factor", "0.5", "the plain rope"),
    ),
    (
        {"rope_parameters": {"full_attention": {"rope_theta": 10000}}},
        ("rope_parameters.full_attention", "{'rope_theta': 10000}", "the plain rope"),
    ),
]


@pytest.mark.parametrize(("keys", "difference"), CHANGED, ids=lambda value: str(value)[:50])
def test_what_changes_what_is_computed_differs(keys, difference):
    config = {k: v for k, v in {**published("7b"), **keys}.items() if v is not None}
    found = architecture.setting_differences(config, wanted("7b"))
    assert [(d.what, d.found, d.wanted) for d in found] == [difference]


@pytest.mark.parametrize(
    "keys",
    [
        {"head_dim": 128},
        {"head_dim": None},
        {"attention_dropout": 0},
        {"mlp_bias": False},
        {"is_causal": True},
        {"quantization_config": None},
        {"rope_scaling": None},
        {"rope_parameters": {"rope_theta": 10000, "rope_type": "default", "partial_rotary_factor": 1.0}},
        {"sliding_window": None, "max_window_layers": 0},
        {"initializer_range": 0.05, "use_cache": False, "transformers_version": "9"},
    ],
    ids=str,
)
def test_what_is_equivalent_does_not_differ(keys):
    assert architecture.setting_differences({**published("7b"), **keys}, wanted("7b")) == []


LAYER = "model.layers.1.mlp.up_proj.weight"
TENSORS = [
    (lambda t: t.pop(LAYER), (LAYER, "absent", [256, 96], "a loader fills it with random numbers")),
    (lambda t: t.update({LAYER: (96, 256)}), (LAYER, [96, 256], [256, 96], "the weights do not fit")),
    (lambda t: t.update({LAYER: (24576,)}), (LAYER, [24576], [256, 96], "the weights do not fit")),
    (lambda t: t.update({"model.layers.2.x": (1,)}), ("model.layers.2.x", [1], "none", "a loader drops it")),
    (lambda t: t.update({"../x": (1,)}), ("../x", [1], "none", "a loader drops it")),
    (
        lambda t: t.update({"lm_head.weight": (512, 95)}),
        ("lm_head.weight", [512, 95], [512, 96], "the weights do not fit"),
    ),
]


@pytest.mark.parametrize(
    ("change", "difference"), TENSORS, ids=lambda value: str(value)[:40] if isinstance(value, tuple) else None
)
def test_a_tensor_that_differs_is_named(change, difference):
    row = recipe.shipped("tiny").architectures["tiny"]
    shapes = architecture.tensors(row)
    change(shapes)
    (found,) = architecture.tensor_differences(tensors(shapes), row)
    assert (found.what, found.found, found.wanted) == difference[:3] and found.breaks.startswith(
        difference[3]
    )


def test_a_layer_too_few_names_each_of_its_tensors():
    row = recipe.shipped("tiny").architectures["tiny"]
    found = architecture.tensor_differences(tensors(architecture.tensors(row)), replace(row, layers=3))
    assert len(found) == 12 and found[0].what == "model.layers.2.input_layernorm.weight"


@pytest.mark.parametrize(
    ("keys", "dtype"),
    [
        ({"torch_dtype": "bfloat16"}, "BF16"),
        ({"dtype": "float32"}, "F32"),
        ({"dtype": "torch.float16"}, "F16"),
        ({"dtype": "float32", "torch_dtype": "float32"}, "F32"),
        ({"dtype": "float32", "torch_dtype": "bfloat16"}, "float32 or bfloat16"),
        ({"dtype": None, "torch_dtype": "bfloat16"}, "BF16"),
        ({"dtype": ["float32"]}, None),
        ({}, None),
    ],
)
def test_the_number_type(keys, dtype):
    assert architecture.dtype(keys) == dtype


def test_every_key_of_the_shape_is_one_that_the_passport_shows():
    assert set(passport._SHAPE) <= set(architecture.SHAPE)
