"""A tiny base model with random weights: a Qwen2 laid out as Qwen2.5-Math's repository is, or another family.

Its config.json writes `max_position_embeddings` and `rope_theta` exactly as the published ones do, so that
the recipe's sed patch applies. It needs numpy, tokenizers, transformers and safetensors, never torch.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from omr import recipe
from omr.recipe import Architecture, Recipe
from omr.recipe.families import FAMILIES, head_width, tensors
from omr.tiny import tokenizer

if TYPE_CHECKING:
    import numpy

Config = dict[str, str | int | float | bool | list[str]]
_DEVIATION = 0.05  # of the random weights; Qwen2's own 0.02 starts a model this narrow too slowly


def tiny() -> Recipe:
    """The tiny recipe, whatever is in force."""
    return recipe.shipped("tiny")


def write_base(folder: Path, seed: int = 0, *, made: Recipe | None = None, name: str = "tiny") -> list[Path]:
    """Write weights, config.json, generation_config.json and the tokenizer's files; return their paths.

    The architecture is that of the model `name` in the recipe `made`, by default the tiny one. The bytes
    follow from the seed. The caller gives an empty folder and makes it final.
    """
    made = made or tiny()
    architecture = made.architectures[name]
    context = {key: published for key, (published, _) in made.contexts[name].items()}
    from safetensors.numpy import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    encoder = tokenizer.byte_pair_encoder()
    end = encoder.token_to_id(tokenizer.END_OF_TEXT)
    save_file(random_weights(seed, architecture), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "tokenizer.json").write_text(encoder.to_str(pretty=True), encoding="utf-8")
    for name, value in (
        ("config", {**_config(end, architecture), **context}),
        ("generation_config", _generation_config(end)),
        ("tokenizer_config", tokenizer.tokenizer_config(encoder)),
    ):
        text = json.dumps(value, indent=2, ensure_ascii=False)
        (folder / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")
    return sorted(folder.iterdir())


def _config(end: int, of: Architecture) -> Config:
    """The content of config.json but for the context; `end` is the id of the end of text."""
    family = FAMILIES[of.family]
    windows = {"max_window_layers": of.layers, "sliding_window": 4096, "use_sliding_window": False}
    values = {
        "architectures": [family.loader],
        "attention_dropout": 0.0,
        "bos_token_id": end,
        "eos_token_id": end,
        "hidden_act": "silu",
        "hidden_size": of.hidden,
        "initializer_range": _DEVIATION,
        "intermediate_size": of.inner,
        "max_position_embeddings": 0,
        "model_type": family.model_type,
        "num_attention_heads": of.heads,
        "num_hidden_layers": of.layers,
        "num_key_value_heads": of.kv_heads,
        "rms_norm_eps": of.norm_epsilon,
        "rope_theta": 0,
        "tie_word_embeddings": of.tied,
        "torch_dtype": "float32",
        "transformers_version": "4.44.0",
        "use_cache": True,
        "vocab_size": of.vocabulary,
        **({"use_mrope": False} if family.model_type == "qwen2" else {"attention_bias": False}),
        **(windows if family.model_type != "llama" else {}),
        **({"head_dim": head_width(of)} if family.head else {}),
    }
    return dict(sorted(values.items()))  # as the published file has them


def _generation_config(end: int) -> dict[str, int | bool]:
    """The content of generation_config.json; `end` is the id of the end of text."""
    return {"bos_token_id": end, "do_sample": False, "eos_token_id": end, "max_new_tokens": 2048}


def random_weights(seed: int, of: Architecture | None = None) -> dict[str, "numpy.ndarray"]:
    """fp32 tensors by their names: matrices normally distributed, biases 0, norms 1; by default tiny's."""
    import numpy as np

    generator = np.random.default_rng(seed)

    def made(name: str, shape: tuple[int, ...]) -> "numpy.ndarray":
        if len(shape) == 1:
            return np.full(shape, 0.0 if name.endswith(".bias") else 1.0, np.float32)
        return (_DEVIATION * generator.standard_normal(shape)).astype(np.float32)

    return {name: made(name, shape) for name, shape in tensors(of or tiny().architectures["tiny"]).items()}
