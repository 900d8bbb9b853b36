"""The families of models that a recipe can train: how each differs, and the tensors that it has."""

from dataclasses import dataclass

from omr.recipe.types import Architecture

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True)
class Family:
    """How a family of models differs from the others, by transformers' class of it."""

    model_type: str  # of config.json
    loader: str  # its class
    biased: bool  # queries, keys and values have a bias
    normed_heads: bool  # queries and keys are normalised head by head
    head: int | None  # dimensions of a head where config.json says nothing; None: hidden / heads


FAMILIES = {
    "qwen2": Family("qwen2", "Qwen2ForCausalLM", True, False, None),
    "qwen3": Family("qwen3", "Qwen3ForCausalLM", False, True, 128),
    "llama": Family("llama", "LlamaForCausalLM", False, False, None),
}


def head_width(architecture: Architecture) -> int:
    """Dimensions of an attention head."""
    return architecture.head or architecture.hidden // architecture.heads


def tensors(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor, as transformers' class of the family names them.

    A tied output head is not among them.
    """
    kind, width, inner = FAMILIES[architecture.family], architecture.hidden, architecture.inner
    head = head_width(architecture)
    queries, keys = head * architecture.heads, head * architecture.kv_heads  # rows of the projections
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (width,),
        "self_attn.q_proj.weight": (queries, width),
        "self_attn.k_proj.weight": (keys, width),
        "self_attn.v_proj.weight": (keys, width),
        "self_attn.o_proj.weight": (width, queries),
        "post_attention_layernorm.weight": (width,),
        "mlp.gate_proj.weight": (inner, width),
        "mlp.up_proj.weight": (inner, width),
        "mlp.down_proj.weight": (width, inner),
    }
    if kind.biased:
        layer |= {f"self_attn.{name}_proj.bias": layer[f"self_attn.{name}_proj.weight"][:1] for name in "qkv"}
    if kind.normed_heads:
        layer |= {f"self_attn.{name}_norm.weight": (head,) for name in "qk"}
    found = {EMBEDDING: (architecture.vocabulary, width)}
    for number in range(architecture.layers):
        found |= {f"model.layers.{number}.{name}": shape for name, shape in layer.items()}
    found["model.norm.weight"] = (width,)
    return found if architecture.tied else {**found, HEAD: found[EMBEDDING]}
