"""Checks of the configuration before submission: what would otherwise fail on the nodes, or weeks later."""

from omr import manifest, recipe
from omr.errors import RequestError
from omr.training.nemo_rl import keys
from omr.training.nemo_rl.keys import Values

DIVISOR = "policy.make_sequence_length_divisible_by"
# What OVERRIDES may not change, because the links, the conversion or the average rely on it, and why.
FIXED = {
    "sft.max_num_steps": "set STEPS=… NAME=… instead",
    "checkpointing.enabled": "the links go on from checkpoints",
    "checkpointing.save_optimizer": "the links go on from checkpoints",
    "checkpointing.checkpoint_dir": "set NAME=… instead",
    "checkpointing.keep_top_k": "it would delete steps that are averaged",
    "policy.model_name": "make model takes BASE=… instead",
    "data.train.data_path": "make data with a NAME instead",
    "cluster.num_nodes": "set NODES=… instead",
    "cluster.gpus_per_node": "set GPUS=… instead",
}
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
    for key, why in FIXED.items():
        needed, value = keys.get(before, key), keys.get(after, key)
        if value != needed:
            raise RequestError(f"OVERRIDES: {key}={value} cannot be ({needed} is needed): {why}")
    period, averaged = keys.get(after, "checkpointing.save_period"), schedule.averaged
    if not isinstance(period, int) or period < 1 or any(step % period for step in averaged[:-1]):
        raise RequestError(
            f"OVERRIDES: checkpointing.save_period={period} never saves the averaged steps"
            f" {', '.join(map(str, averaged))}; choose a divisor of {schedule.save_period}"
        )


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
    length, pad = policy["max_total_sequence_length"], policy["make_sequence_length_divisible_by"]
    least = recipe.sequence_divisor(tensor, context)
    if pad % least or length % pad:
        raise RequestError(
            f"{run.title}: {DIVISOR}={pad} must be a multiple of {least} and divide {length} tokens"
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
