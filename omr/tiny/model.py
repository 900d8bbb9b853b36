"""The tiny base model: a Qwen2 with random weights, laid out as Qwen2.5-Math's repository is.

Its config.json writes `max_position_embeddings` and `rope_theta` exactly as the published ones do, so that
the recipe's sed patch applies. It needs numpy, tokenizers, transformers and safetensors, never torch.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from omr.recipe import Architecture
from omr.tiny import tokenizer

if TYPE_CHECKING:
    import numpy

# The embedding has more rows than the tokenizer has tokens, as Qwen's has.
ARCHITECTURE = Architecture(
    hidden=96,
    layers=2,
    heads=6,
    kv_heads=2,
    inner=256,
    vocabulary=512,
    tied=True,
    norm_epsilon=1e-6,
    dtype="F32",
)
_DEVIATION = 0.05  # of the random weights; Qwen2's own 0.02 starts a model this narrow too slowly


def write_base(folder: Path, seed: int = 0) -> list[Path]:
    """Write weights, config.json, generation_config.json and the tokenizer's files; return their paths.

    The bytes follow from the seed. The caller gives an empty folder and makes it final.
    """
    from safetensors.numpy import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    encoder = tokenizer.byte_pair_encoder()
    end = encoder.token_to_id(tokenizer.END_OF_TEXT)
    save_file(random_weights(seed), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "tokenizer.json").write_text(encoder.to_str(pretty=True), encoding="utf-8")
    for name, value in (
        ("config", _config(end)),
        ("generation_config", _generation_config(end)),
        ("tokenizer_config", tokenizer.tokenizer_config(encoder)),
    ):
        text = json.dumps(value, indent=2, ensure_ascii=False)
        (folder / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")
    return sorted(folder.iterdir())


def _config(end: int) -> dict[str, str | int | float | bool | list[str]]:
    """The content of config.json; `end` is the id of the end of text."""
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": end,
        "eos_token_id": end,
        "hidden_act": "silu",
        "hidden_size": ARCHITECTURE.hidden,
        "initializer_range": _DEVIATION,
        "intermediate_size": ARCHITECTURE.inner,
        "max_position_embeddings": 4096,
        "max_window_layers": ARCHITECTURE.layers,
        "model_type": "qwen2",
        "num_attention_heads": ARCHITECTURE.heads,
        "num_hidden_layers": ARCHITECTURE.layers,
        "num_key_value_heads": ARCHITECTURE.kv_heads,
        "rms_norm_eps": ARCHITECTURE.norm_epsilon,
        "rope_theta": 10000,
        "sliding_window": 4096,
        "tie_word_embeddings": ARCHITECTURE.tied,
        "torch_dtype": "float32",
        "transformers_version": "4.44.0",
        "use_cache": True,
        "use_mrope": False,
        "use_sliding_window": False,
        "vocab_size": ARCHITECTURE.vocabulary,
    }


def _generation_config(end: int) -> dict[str, int | bool]:
    """The content of generation_config.json; `end` is the id of the end of text."""
    return {"bos_token_id": end, "do_sample": False, "eos_token_id": end, "max_new_tokens": 2048}


def random_weights(seed: int) -> dict[str, "numpy.ndarray"]:
    """fp32 tensors by their Qwen2 names: matrices normally distributed, biases 0, norms 1."""
    import numpy as np

    generator = np.random.default_rng(seed)
    width, inner, layers = ARCHITECTURE.hidden, ARCHITECTURE.inner, ARCHITECTURE.layers
    keys_width = width // ARCHITECTURE.heads * ARCHITECTURE.kv_heads

    def random(*shape: int) -> "numpy.ndarray":
        return (_DEVIATION * generator.standard_normal(shape)).astype(np.float32)

    tensors = {"model.embed_tokens.weight": random(ARCHITECTURE.vocabulary, width)}
    for layer in range(layers):
        of_layer = {
            "input_layernorm.weight": np.ones(width, np.float32),
            "self_attn.q_proj.weight": random(width, width),
            "self_attn.q_proj.bias": np.zeros(width, np.float32),
            "self_attn.k_proj.weight": random(keys_width, width),
            "self_attn.k_proj.bias": np.zeros(keys_width, np.float32),
            "self_attn.v_proj.weight": random(keys_width, width),
            "self_attn.v_proj.bias": np.zeros(keys_width, np.float32),
            "self_attn.o_proj.weight": random(width, width),
            "post_attention_layernorm.weight": np.ones(width, np.float32),
            "mlp.gate_proj.weight": random(inner, width),
            "mlp.up_proj.weight": random(inner, width),
            "mlp.down_proj.weight": random(width, inner),
        }
        tensors |= {f"model.layers.{layer}.{name}": tensor for name, tensor in of_layer.items()}
    tensors["model.norm.weight"] = np.ones(width, np.float32)
    return tensors
