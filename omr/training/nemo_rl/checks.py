"""Checks of the configuration before submission: what would otherwise fail on the nodes, or weeks later."""

from omr import manifest, recipe
from omr.errors import RequestError
from omr.training.nemo_rl import keys
from omr.training.nemo_rl.keys import Values

DIVISOR = "policy.make_sequence_length_divisible_by"
NO_VALIDATION = "there is no validation set"
NO_CHOICE = "no checkpoint is chosen by a metric: all of the schedule are kept, and averaged"
MEGATRON_ALONE = "the conversion and the average read Megatron's checkpoints"
OUR_ROWS = "make data writes the rows in this form"
# What OVERRIDES may not change, because the links, the conversion or the average rely on it, or because
# nothing in such a run reads it; and why.
FIXED = {
    "defaults": "set NEMO_RL=… instead",
    "sft.max_num_steps": "set STEPS=… NAME=… instead",
    "sft.val_period": NO_VALIDATION,
    "sft.val_at_start": NO_VALIDATION,
    "sft.val_at_end": NO_VALIDATION,
    "sft.val_batches": NO_VALIDATION,
    "sft.val_global_batch_size": NO_VALIDATION,
    "sft.val_micro_batch_size": NO_VALIDATION,
    "checkpointing.enabled": "the links go on from checkpoints",
    "checkpointing.save_optimizer": "the links go on from checkpoints",
    "checkpointing.checkpoint_dir": "set NAME=… instead",
    "checkpointing.keep_top_k": "it would delete steps that are averaged",
    "checkpointing.metric_name": "there is no validation set to measure it on",
    "checkpointing.higher_is_better": "there is no validation set to measure it on",
    "checkpointing.checkpoint_must_save_by": "the end of the allocation decides; set MARGIN=… instead",
    "policy.model_name": "make model takes BASE=… instead",
    "policy.tokenizer.name": "it is the base model's own; make model takes BASE=… instead",
    "policy.tokenizer.chat_template_kwargs": "no chat template is filled, the rows hold the whole text",
    "policy.megatron_cfg.enabled": MEGATRON_ALONE,
    "policy.dtensor_cfg.enabled": MEGATRON_ALONE,
    "policy.optimizer": "it is DTensor's; policy.megatron_cfg.optimizer.… is Megatron's",
    "policy.sequence_packing.logprob_mb_tokens": "SFT asks for no log-probabilities",
    "policy.sequence_packing.sequence_length_round": "only policy.dynamic_batching rounds",
    "data._override_": "the example's own data sets would be trained on",
    "data.train.dataset_name": OUR_ROWS,
    "data.train.data_path": "make data with a NAME instead",
    "data.train.input_key": OUR_ROWS,
    "data.train.output_key": OUR_ROWS,
    "data.train.processor": OUR_ROWS,
    "data.validation": NO_VALIDATION,
    "data.default": "data.train has all that there is to say",
    "logger.num_val_samples_to_print": NO_VALIDATION,
    "cluster.num_nodes": "set NODES=… instead",
    "cluster.gpus_per_node": "set GPUS=… instead",
}
# The same of a run with held-out rows, where the loss on them is measured: None may be changed.
FIXED_WITH_HELD_OUT: dict[str, str | None] = {
    "sft.val_period": None,
    "sft.val_at_start": None,
    "sft.val_at_end": "the last step is averaged, and the loss of each of those is measured",
    "sft.val_batches": None,
    "sft.val_global_batch_size": None,
    "sft.val_micro_batch_size": None,
    "checkpointing.metric_name": NO_CHOICE,
    "checkpointing.higher_is_better": NO_CHOICE,
    "data.validation": "make data VALIDATION=… NAME=… holds the rows out",
    "logger.num_val_samples_to_print": "SFT prints none",
}
# Whole numbers from 1 up, which other keys are computed from.
COUNTS = (
    "policy.train_global_batch_size",
    "policy.train_micro_batch_size",
    "policy.max_total_sequence_length",
    "policy.megatron_cfg.tensor_model_parallel_size",
    "policy.megatron_cfg.context_parallel_size",
    "policy.megatron_cfg.pipeline_model_parallel_size",
)
PRECISIONS = ("bfloat16", "float16", "float32")
# Where a run logs, and on how many nodes it is, is no part of what it learns.
MACHINE = ("logger", "cluster", "defaults")


def parallel(values: Values) -> tuple[int, int, int]:
    """Tensor, context and pipeline parallel sizes."""
    sizes = values["policy"]["megatron_cfg"]
    return (
        sizes["tensor_model_parallel_size"],
        sizes["context_parallel_size"],
        sizes["pipeline_model_parallel_size"],
    )


def overridden(before: Values, after: Values, schedule: recipe.Schedule) -> None:
    """A RequestError where OVERRIDES made of `before` what the rest of the chain could not go on with."""
    held_out = bool(keys.get(before, "data.validation"))
    for key, why in {**FIXED, **(FIXED_WITH_HELD_OUT if held_out else {})}.items():
        needed, value = keys.get(before, key), keys.get(after, key)
        if why and value != needed:
            raise RequestError(f"OVERRIDES: {key}={value} cannot be ({needed} is needed): {why}")
    for key in COUNTS:
        _whole(after, key, 1)
    _meets_averaged(after, "checkpointing.save_period", "saves", schedule)
    if held_out:
        _validation(after, schedule)


def _whole(values: Values, key: str, least: int) -> None:
    value = keys.get(values, key)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise RequestError(f"OVERRIDES: {key}={value} is not a whole number from {least} up")


def _meets_averaged(values: Values, key: str, does: str, schedule: recipe.Schedule) -> None:
    period, averaged = keys.get(values, key), schedule.averaged
    if (
        isinstance(period, bool)
        or not isinstance(period, int)
        or period < 1
        or any(step % period for step in averaged[:-1])
    ):
        raise RequestError(
            f"OVERRIDES: {key}={period} never {does} the averaged steps"
            f" {', '.join(map(str, averaged))}; choose a divisor of {schedule.save_period}"
        )


def _validation(values: Values, schedule: recipe.Schedule) -> None:
    """How the loss on held-out rows is measured."""
    _meets_averaged(values, "sft.val_period", "measures", schedule)
    for key, least in (
        ("sft.val_batches", 0),
        ("sft.val_global_batch_size", 1),
        ("sft.val_micro_batch_size", 1),
    ):
        _whole(values, key, least)
    if not isinstance(at_start := keys.get(values, "sft.val_at_start"), bool):
        raise RequestError(f"OVERRIDES: sft.val_at_start={at_start} is neither true nor false")


def together(values: Values) -> None:
    """A RequestError for values that NeMo-RL or Megatron would refuse beside each other, on the nodes."""
    policy = values["policy"]
    megatron, packing = policy["megatron_cfg"], policy["sequence_packing"]
    optimizer, scheduler = megatron["optimizer"], megatron["scheduler"]
    start, end = scheduler["start_weight_decay"], scheduler["end_weight_decay"]
    precision, clip = policy["precision"], optimizer["clip_grad"]
    for wrong, what, advice in (
        (precision not in PRECISIONS, f"policy.precision={precision}", f"choose {', '.join(PRECISIONS)}"),
        (
            packing["enabled"] and policy["dynamic_batching"]["enabled"],
            "policy.dynamic_batching.enabled=true",
            "set policy.sequence_packing.enabled=false beside it",
        ),
        (
            optimizer["optimizer_cpu_offload"] and optimizer["optimizer_offload_fraction"] != 1.0,
            "policy.megatron_cfg.optimizer.optimizer_cpu_offload=true",
            "set policy.megatron_cfg.optimizer.optimizer_offload_fraction=1.0 beside it",
        ),
        (
            scheduler["weight_decay_incr_style"] == "constant" and start != end,
            f"a weight decay from {start} to {end}",
            "set policy.megatron_cfg.scheduler.weight_decay_incr_style=linear beside it",
        ),
        (clip is None, "policy.max_grad_norm=null", "0.0 clips nothing"),
    ):
        if wrong:
            raise RequestError(f"OVERRIDES: {what} cannot be here; {advice}")


def sizes(values: Values, run: recipe.Run) -> None:
    """A RequestError where nodes, parallel sizes, batch and sequence length do not go together."""
    nodes, gpus = values["cluster"]["num_nodes"], values["cluster"]["gpus_per_node"]
    policy, (tensor, context, pipeline) = values["policy"], parallel(values)
    batch, rows = policy["train_global_batch_size"], policy["train_micro_batch_size"]
    world, part = nodes * gpus, tensor * context * pipeline
    size = f"{nodes} nodes of {gpus} GPUs"
    if world == 0 or world % part:
        raise RequestError(
            f"{run.title}: {size} cannot be shared by tensor parallel {tensor} x context parallel {context}"
            f"{f' x pipeline parallel {pipeline}' if pipeline > 1 else ''};"
            f" choose NODES and GPUS whose product is a multiple of {part}"
        )
    if batch % (world // part * rows):
        raise RequestError(
            f"{run.title}: {size} make {world // part} data-parallel ranks, which do not divide the batch of"
            f" {batch} rows; choose NODES and GPUS whose product is {part} times a power of two"
        )
    _held_out_batch(values, world // part, f"{run.title}: {size}")
    length, pad = policy["max_total_sequence_length"], policy["make_sequence_length_divisible_by"]
    least = recipe.sequence_divisor(tensor, context)
    if pad % least or length % pad:
        raise RequestError(
            f"{run.title}: {DIVISOR}={pad} must be a multiple of {least} and divide {length} tokens"
        )


def _held_out_batch(values: Values, ranks: int, title: str) -> None:
    """A RequestError where the ranks cannot share a batch of held-out rows; the last one NeMo-RL pads."""
    sft = values["sft"]
    batch, rows = sft["val_global_batch_size"], sft["val_micro_batch_size"]
    if values["data"]["validation"] and batch % (ranks * rows):
        raise RequestError(
            f"{title} make {ranks} data-parallel ranks, which do not share sft.val_global_batch_size={batch}"
            f" in micro-batches of {rows}; leave them out of OVERRIDES, or take a multiple of {ranks * rows}"
        )


def rows(run: recipe.Run, count: int, values: Values) -> None:
    """A RequestError where the epochs over `count` rows end before the steps do: it would never complete."""
    batch, epochs = values["policy"]["train_global_batch_size"], values["sft"]["max_num_epochs"]
    if count // batch * epochs < run.schedule.steps:
        raise RequestError(
            f"{run.title}: {count:,} rows make {count // batch} steps an epoch, and {epochs} epochs of them"
            f" never reach step {run.schedule.steps:,}; take more rows (LIMIT, MODES) or fewer STEPS"
        )


def changes(old: str, new: str, but: tuple[str, ...] = MACHINE) -> list[str]:
    """What differs between two texts of the file, sections of `but` left out: `sft.seed was 42, is 7`."""
    import yaml

    try:
        before, after = (
            {key: value for key, value in yaml.safe_load(text).items() if key not in but}
            for text in (old, new)
        )
    except (yaml.YAMLError, AttributeError):
        return ["it is no YAML any more"]
    return manifest.changes(before, after)
