"""Keys that follow from others: what NeMo-RL's own example ties together by interpolation.

nemo_rl.yaml is written out in full, so that a run can be read; the ties are worked in here, after OVERRIDES,
as they would be there. A key that only its followers read has no effect beside them, and is refused then.
"""

from collections.abc import Callable, Collection

from omr import recipe
from omr.errors import RequestError
from omr.training.nemo_rl import checks, keys
from omr.training.nemo_rl.keys import Value, Values

MEGATRON = "policy.megatron_cfg"
LENGTH, ROWS = "policy.max_total_sequence_length", "policy.train_micro_batch_size"
BATCH = "policy.train_global_batch_size"
MASKED = "data.max_input_seq_length"  # NeMo-RL masks rows of so many tokens and more
CLIP, DECAY, PRECISION = "policy.max_grad_norm", f"{MEGATRON}.optimizer.weight_decay", "policy.precision"


def _same(key: str) -> Callable[[Values], Value]:
    return lambda values: keys.get(values, key)


def _precision(name: str) -> Callable[[Values], Value]:
    return lambda values: keys.get(values, PRECISION) == name


def _tokens(values: Values) -> Value:
    """Tokens of a micro-batch: so many full-length rows, or more that are packed into their place."""
    return keys.get(values, LENGTH) * keys.get(values, ROWS)


def _divisor(values: Values) -> Value:
    tensor, context, _ = checks.parallel(values)
    return recipe.sequence_divisor(tensor, context)


# Each follower, and what it is unless OVERRIDES says otherwise.
TIES: dict[str, Callable[[Values], Value]] = {
    checks.DIVISOR: _divisor,
    "policy.sequence_packing.train_mb_tokens": _tokens,
    "policy.sequence_packing.logprob_mb_tokens": _tokens,
    f"{MEGATRON}.pipeline_dtype": _same(PRECISION),
    f"{MEGATRON}.optimizer.bf16": _precision("bfloat16"),
    f"{MEGATRON}.optimizer.fp16": _precision("float16"),
    f"{MEGATRON}.optimizer.clip_grad": _same(CLIP),
    f"{MEGATRON}.scheduler.start_weight_decay": _same(DECAY),
    f"{MEGATRON}.scheduler.end_weight_decay": _same(DECAY),
}
# Where rows are held out: a batch that the data-parallel ranks share, in a training step's memory.
HELD_OUT: dict[str, Callable[[Values], Value]] = {
    "sft.val_global_batch_size": _same(BATCH),
    "sft.val_micro_batch_size": _same(ROWS),
}
# Keys that Megatron does not read itself, and the followers through which they count.
SILENT = {
    LENGTH: ("policy.sequence_packing.train_mb_tokens", MASKED),
    CLIP: (f"{MEGATRON}.optimizer.clip_grad",),
    DECAY: (f"{MEGATRON}.scheduler.start_weight_decay", f"{MEGATRON}.scheduler.end_weight_decay"),
}


def follow(values: Values, overridden: Collection[str], edition: recipe.Edition) -> None:
    """Set every follower that OVERRIDES does not name; a RequestError for a key without an effect."""
    masked = {MASKED: lambda values: keys.get(values, LENGTH) + edition.trains_full_rows}
    held_out = HELD_OUT if values["data"]["validation"] else {}
    for key, value in {**TIES, **masked, **held_out}.items():
        if key not in overridden:
            keys.put(values, key, value(values))
    for key, followers in SILENT.items():
        if key in overridden and set(followers) <= set(overridden):
            raise RequestError(
                f"OVERRIDES: {key} has no effect beside {' and '.join(followers)}; leave one of them out"
            )
