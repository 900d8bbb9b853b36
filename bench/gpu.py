"""The one-box engine's step on a GPU: a random 1.5b packed to 8k and 32k tokens, its share of the peak, its memory.

Attention, loss and recomputation are those that the engine runs with there (omr/training/trl); a machine without a GPU
says so in the table's row.
"""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.measure import Case, Place
from omr import recipe
from omr.cluster.plan import PEAK
from omr.recipe import Architecture
from omr.recipe.families import head_width
from omr.recipe.memory import parameters

if TYPE_CHECKING:
    import torch

LENGTHS = (8_192, 32_768)
STEPS = 5  # timed, after one that is not


def cases(place: Place) -> Iterator[Case]:
    """Each length, where a GPU is at hand."""
    import torch

    for length in LENGTHS:
        what = f"a step of a random 1.5b, {length:,} tokens packed, bf16"
        if not torch.cuda.is_available():
            yield Case(what, "tokens/s", {}, "no CUDA GPU is on this machine")
            continue
        name = torch.cuda.get_device_name()
        speed, memory = step(recipe.ARCHITECTURES["1.5b"], length, "cuda")
        share = speed * operations(recipe.ARCHITECTURES["1.5b"], length) / PEAK
        note = f"{name}: {share:.0%} of an H100's peak, {memory / 1e9:.0f} GB"
        yield Case(
            what,
            "tokens/s",
            {"this toolkit": lambda length=length: step(recipe.ARCHITECTURES["1.5b"], length, "cuda")[0]},
            note,
        )


def operations(shape: Architecture, length: int) -> float:
    """Floating-point operations of a token in one row of `length`: forward and backward, causal attention."""
    return 6 * parameters(shape) + 6 * shape.layers * shape.heads * head_width(shape) * length


def step(shape: Architecture, length: int, device: str) -> tuple[float, float]:
    """Tokens a second of a step (forward, backward, AdamW) on one row of `length`, and the peak memory in bytes."""
    import torch

    from omr.training.trl.config import recomputes

    model = random_model(shape, length, device)
    if recomputes(parameters(shape)):
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=device == "cuda")
    ids = torch.randint(0, shape.vocabulary, (1, length), device=device)

    def once() -> None:
        with torch.autocast(device, torch.bfloat16):
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()

    once()
    begin = time.perf_counter()
    for _ in range(STEPS):
        once()
    speed = STEPS * length / (time.perf_counter() - begin)
    memory = torch.cuda.max_memory_allocated() if device == "cuda" else 0.0
    return speed, memory


def random_model(shape: Architecture, length: int, device: str) -> "torch.nn.Module":
    """A Qwen2 of a shape with random fp32 weights, with the attention that the engine would choose."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config
    from transformers.utils import is_flash_attn_2_available

    config = Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=length,
        tie_word_embeddings=shape.tied,
    )
    attention = "flash_attention_2" if device == "cuda" and is_flash_attn_2_available() else "sdpa"
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=attention)
