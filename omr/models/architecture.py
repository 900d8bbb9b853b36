"""What a recipe's model must be: the tensors of its architecture, and the settings that it computes with.

Weights and config.json are held to the published architecture of their row, not to each other alone: a loader
fills a layer that config.json has and the weights have not with random numbers, and says so in a log at most.
Which of FAMILIES a row belongs to is said by its recipe.Architecture.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omr import recipe
from omr.models import rope, weights
from omr.models.rope import Config
from omr.models.weights import Tensor
from omr.recipe import Architecture, Model, Run
from omr.recipe.families import EMBEDDING, FAMILIES, HEAD, Family, head_width, tensors

# Keys of config.json, and which number of the architecture each is.
SHAPE = {
    "hidden_size": "hidden",
    "intermediate_size": "inner",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "vocab_size": "vocabulary",
    "rms_norm_eps": "norm_epsilon",
    "tie_word_embeddings": "tied",
}
# Further keys that change what is computed, with the value that they have in every family. An absent key has
# it, too: it is the default of transformers 4 and 5. sliding_window and max_window_layers are free: without
# use_sliding_window nobody reads them, and transformers 5 writes null for the window.
SETTINGS = {
    "hidden_act": "silu",
    "attention_dropout": 0.0,
    "use_sliding_window": False,
    "use_mrope": False,
    "mlp_bias": False,
    "is_causal": True,
    "partial_rotary_factor": 1.0,
    "pruned_heads": {},
}
DEFAULTS = {"rms_norm_eps": 1e-6, "tie_word_embeddings": False, **SETTINGS}


# Keys that no published file has, and what each would change.
COMPUTED = "another model is computed than the published one"
FOREIGN = {
    "auto_map": "code that came with the model would run",
    "quantization_config": "the recipe trains plain weights",
    "compression_config": "the recipe trains plain weights",
    "qkv_bias": COMPUTED,
}
FULL = "full_attention"
ABSENT = "absent"


# A config.json's names of number types -> those of safetensors.
DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64"}


@dataclass(frozen=True)
class Difference:
    """A key or a tensor that is not the published model's."""

    what: str
    found: Any  # a value of config.json, or a tensor's shape or number type
    wanted: Any
    breaks: str  # what comes of it
    file: Path | None = None  # the tensor's


def of(model: Model) -> Architecture:
    """The architecture of a row's published base."""
    return recipe.ARCHITECTURES[model.name]


def trained_epsilon(run: Run) -> float:
    """The epsilon of RMSNorm that NeMo-RL trains a run with, where OVERRIDES says nothing.

    NeMo-Skills' SFT YAML has one for every model, though the config.json of 14b and 32b has another, with
    which the published models were trained.
    """
    one = None if run.text.own_epsilon else recipe.TRAINED_EPSILON
    return one or of(run.model).norm_epsilon


def source(model: Model) -> str:
    """What says so, in the lines about a row's architecture."""
    return model.base.repo if model.base else "omr/tiny/model.py"


def family(model: Model) -> Family:
    """The family of a row's model."""
    return FAMILIES[of(model).family]


def tensor_differences(found: dict[str, Tensor], architecture: Architecture) -> list[Difference]:
    """Tensors that are missing, too many or of another shape; a tied head may be stored or not."""
    wanted = tensors(architecture)
    if HEAD in found:
        wanted.setdefault(HEAD, wanted[EMBEDDING])
    differences = []
    for name, shape in wanted.items():
        if name not in found:
            breaks = "a loader fills it with random numbers"
            differences.append(Difference(name, ABSENT, list(shape), breaks))
        elif found[name].shape != shape:
            there = found[name]
            breaks = "the weights do not fit the model"
            differences.append(Difference(name, list(there.shape), list(shape), breaks, there.file))
    for name in sorted(set(found) - set(wanted)):
        there = found[name]
        differences.append(Difference(name, list(there.shape), "none", "a loader drops it", there.file))
    return differences


def dtype(config: Config) -> str | None:
    """The weights' number type by config.json; both, where its old and its new key differ."""
    keys = [config[key] for key in ("dtype", "torch_dtype") if config.get(key) is not None]
    found = dict.fromkeys(str(value).removeprefix("torch.") for value in keys)
    return DTYPES.get(next(iter(found))) if len(found) == 1 else " or ".join(found) or None


def tied_otherwise(found: dict[str, Tensor], architecture: Architecture) -> list[Difference]:
    """The output head, where it is tied to the embedding and stored as another matrix; reads the two."""
    head, embedding = found.get(HEAD), found.get(EMBEDDING)
    if not (architecture.tied and head and embedding) or weights.same(head, embedding):
        return []
    other = "another matrix than the embedding"
    return [Difference(HEAD, other, "they are one", "a loader would drop it", head.file)]


def setting_differences(config: Config, architecture: Architecture) -> list[Difference]:
    """Keys of config.json that make it compute something else than the published model.

    What the versions of transformers spell otherwise (layer_types, head_dim, a window of null) is no
    difference. Context and rope base are compared elsewhere: the recipe's patch changes them.
    """
    kind = FAMILIES[architecture.family]
    wanted = {"model_type": kind.model_type} | {key: getattr(architecture, f) for key, f in SHAPE.items()}
    differences = []
    for key, value in {**wanted, **SETTINGS}.items():
        found = config.get(key, DEFAULTS.get(key, ABSENT))
        if not _same(found, value):
            differences.append(Difference(key, found, value, COMPUTED))
    if config.get("attention_bias") not in ((None,) if kind.biased else (None, False)):
        wrong = "none" if kind.biased else False
        differences.append(Difference("attention_bias", config["attention_bias"], wrong, COMPUTED))
    width = head_width(architecture)
    found = config.get("head_dim")
    found = kind.head if found is None else found  # what the family takes where nothing is said
    if found is not None and not _same(found, width):
        differences.append(Difference("head_dim", found, width, COMPUTED))
    kinds = config.get("layer_types")
    if kinds is not None and kinds != [FULL] * architecture.layers:
        differences.append(
            Difference("layer_types", _counted(kinds), f"{architecture.layers} {FULL}", COMPUTED)
        )
    if odd := rope.scaled_otherwise(config, architecture.rope_scaling):
        name, _, value = odd.partition(" is ")
        scaling = architecture.rope_scaling.get("rope_type", "plain")
        differences.append(Difference(name, value, f"the {scaling} rope", COMPUTED))
    return [*differences, *foreign(config)]


def foreign(config: Config) -> list[Difference]:
    """Keys of a configuration that no model of the recipe has."""
    return [
        Difference(key, config[key], "none", breaks)
        for key, breaks in FOREIGN.items()
        if config.get(key) is not None
    ]


def _same(found: Any, wanted: Any) -> bool:
    """Whether two values are equal and of one kind: true is not 1, and 28.0 layers are none."""
    if isinstance(wanted, float):
        return rope.is_number(found) and found == wanted
    return type(found) is type(wanted) and found == wanted


def _counted(kinds: Any) -> str:
    """`27 full_attention, 1 sliding_attention`, of a list of words; else the value itself."""
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        return str(kinds)
    return ", ".join(f"{count} {kind}" for kind, count in Counter(kinds).items()) or "empty"
