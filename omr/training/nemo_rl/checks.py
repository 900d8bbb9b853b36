"""What NeMo-RL, the links or the average could not go with: refused at once, not weeks later."""

from pathlib import Path

from omr import manifest, recipe
from omr.errors import RequestError
from omr.workspace import RunFolder

DIVISOR = "policy.make_sequence_length_divisible_by"


def parallel(values: dict) -> tuple[int, int, int]:
    """Tensor, context and pipeline parallel sizes."""
    sizes = values["policy"]["megatron_cfg"]
    names = ("tensor_model_parallel_size", "context_parallel_size", "pipeline_model_parallel_size")
    tensor, context, pipeline = (sizes[name] for name in names)
    return tensor, context, pipeline


def chain(
    values: dict, run: recipe.Run, folder: RunFolder, base: Path, data: Path, nodes: int, gpus: int
) -> None:
    """Refuse OVERRIDES that the links, the conversion or the average could not go with, weeks later."""
    save, averaged = values["checkpointing"], run.schedule.averaged
    fixed = (
        (
            "sft.max_num_steps",
            values["sft"]["max_num_steps"],
            run.schedule.steps,
            "set STEPS=… NAME=… instead",
        ),
        ("checkpointing.enabled", save["enabled"], True, "the links go on from checkpoints"),
        ("checkpointing.save_optimizer", save["save_optimizer"], True, "the links go on from checkpoints"),
        (
            "checkpointing.checkpoint_dir",
            save["checkpoint_dir"],
            str(folder.checkpoints),
            "set NAME=… instead",
        ),
        ("checkpointing.keep_top_k", save["keep_top_k"], None, "it would delete steps that are averaged"),
        ("policy.model_name", values["policy"]["model_name"], str(base), "make model takes BASE=… instead"),
        (
            "data.train.data_path",
            values["data"]["train"]["data_path"],
            str(data),
            "make data with a NAME instead",
        ),
        ("cluster.num_nodes", values["cluster"]["num_nodes"], nodes, "set NODES=… instead"),
        ("cluster.gpus_per_node", values["cluster"]["gpus_per_node"], gpus, "set GPUS=… instead"),
    )
    for key, value, needed, why in fixed:
        if value != needed:
            raise RequestError(f"OVERRIDES: {key}={value} cannot be ({needed} is needed): {why}")
    period = save["save_period"]
    if not isinstance(period, int) or period < 1 or any(step % period for step in averaged[:-1]):
        raise RequestError(
            f"OVERRIDES: checkpointing.save_period={period} never saves the averaged steps"
            f" {', '.join(map(str, averaged))}; choose a divisor of {run.schedule.save_period}"
        )


def sizes(values: dict, run: recipe.Run) -> None:
    """Refuse what the engine would refuse only after the nodes were had."""
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


def rows(run: recipe.Run, count: int, values: dict) -> None:
    """Refuse data that the epochs end before the steps do: such a training is never complete."""
    batch, epochs = values["policy"]["train_global_batch_size"], values["sft"]["max_num_epochs"]
    if count // batch * epochs < run.schedule.steps:
        raise RequestError(
            f"{run.title}: {count:,} rows make {count // batch} steps an epoch, and {epochs} epochs of them"
            f" never reach step {run.schedule.steps:,}; take more rows (LIMIT, MODES) or fewer STEPS"
        )


# Where a run logs, and on how many nodes it is, is no part of what it learns.
MACHINE = ("logger", "cluster", "defaults")


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
