"""A run -> the YAML that NeMo-RL reads: sft.yaml beside this file, with what follows from the run."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omr import recipe
from omr.models import architecture
from omr.run.nemo_rl_version import PINNED_VERSION
from omr.run.validation import ValidationFile
from omr.training.nemo_rl import checks, keys, ties
from omr.training.nemo_rl.keys import Values
from omr.workspace import RunFolder

CONSTANT = Path(__file__).with_name("sft.yaml")
HEADER = """\
# What NeMo-RL reads for {title}: NeMo-Skills' SFT configuration plus the recipe's arguments, in full.
# Written by make train; {overrides}.
"""


@dataclass(frozen=True)
class Inputs:
    """What the configuration of a run follows from."""

    run: recipe.Run
    folder: RunFolder
    base: Path  # the model that training starts from
    data: Path  # the SFT file
    nodes: int | None = None  # None: the recipe's
    gpus: int | None = None  # of a node; None: the recipe's
    overrides: str | None = None  # keys of NeMo-RL that the user sets: a.b=c d.e=f
    wandb: bool = False  # NeMo-RL has it on by default
    wandb_project: str | None = None  # None: the one of sft.yaml
    wandb_entity: str | None = None
    engine_root: str = PINNED_VERSION.folder
    held_out: Sequence[ValidationFile] = ()  # by split; none: nothing is validated


def values(inputs: Inputs) -> Values:
    """The whole configuration as plain values.

    Raises a RequestError where the parallel sizes or the OVERRIDES cannot work.
    """
    import yaml

    found = yaml.safe_load(CONSTANT.read_text(encoding="utf-8"))
    for key, value in _derived(inputs).items():
        keys.put(found, key, value)
    if inputs.held_out:
        _validate(found, inputs)
    ties.follow(found, (), inputs.run.text)
    before = copy.deepcopy(found)
    overrides = dict(keys.parse_overrides(inputs.overrides))
    for key, value in overrides.items():
        keys.put(found, key, value)
    keys.check(found)
    checks.overridden(before, found, inputs.run.schedule)
    ties.follow(found, overrides, inputs.run.text)
    checks.together(found)
    checks.sizes(found, inputs.run)
    return found


def _derived(inputs: Inputs) -> dict[str, str | int | float | bool]:
    """By key: what differs from run to run."""
    run, folder, model, schedule = inputs.run, inputs.folder, inputs.run.model, inputs.run.schedule
    title = f"{model.folder}-{run.key}"
    megatron = "policy.megatron_cfg"
    found = {
        "defaults": f"{inputs.engine_root}/{PINNED_VERSION.example}",
        "sft.max_num_steps": schedule.steps,
        "checkpointing.checkpoint_dir": str(folder.checkpoints),
        "checkpointing.save_period": schedule.save_period,
        "policy.model_name": str(inputs.base),
        "policy.tokenizer.name": str(inputs.base),
        "policy.train_global_batch_size": model.batch,
        "policy.max_total_sequence_length": model.sequence_length,
        f"{megatron}.tensor_model_parallel_size": model.tensor_parallel,
        f"{megatron}.context_parallel_size": model.context_parallel,
        "policy.max_grad_norm": run.text.clip,
        f"{megatron}.empty_unused_memory_level": run.text.memory_level,
        f"{megatron}.layernorm_epsilon": architecture.trained_epsilon(run),
        f"{megatron}.optimizer.lr": model.lr,
        f"{megatron}.optimizer.min_lr": model.min_lr,
        f"{megatron}.scheduler.lr_decay_iters": schedule.steps,
        f"{megatron}.scheduler.lr_warmup_iters": schedule.warmup,
        "data.train.data_path": str(inputs.data),
        "logger.log_dir": str(folder.logs / "nemo_rl"),
        "logger.wandb_enabled": inputs.wandb,
        "logger.wandb.name": title,
        "logger.wandb.id": title,
        "cluster.gpus_per_node": inputs.gpus or model.gpus,
        "cluster.num_nodes": inputs.nodes or model.nodes,
    }
    if inputs.wandb_project:
        found["logger.wandb.project"] = inputs.wandb_project
    if inputs.wandb_entity:
        found["logger.wandb.entity"] = inputs.wandb_entity
    return found


def _validate(found: Values, inputs: Inputs) -> None:
    """The loss on the held-out rows is measured at every step that is averaged, before its save."""
    for key, value in {
        # Not `save_period`, which the driver makes shorter for RECOVERY.
        "sft.val_period": inputs.run.schedule.save_period,
        "sft.val_batches": 0,  # all
        "sft.val_at_end": True,  # the last step need not be a multiple of the period; it is measured once
        # A data set of each split, read as the training's is: what is too long there is masked here.
        "data.validation": [{**found["data"]["train"], "data_path": str(f.path)} for f in inputs.held_out],
    }.items():
        keys.put(found, key, value)


def text(found: Values, run: recipe.Run, overrides: str | None = None) -> str:
    """The YAML file of these values. `1.0e-08` and the like are floats to every reader."""
    import yaml

    note = f"OVERRIDES={overrides} is worked in" if overrides else "change it by OVERRIDES, not by hand"
    body = yaml.safe_dump(found, sort_keys=False, default_flow_style=False, width=110)
    return HEADER.format(title=run.title, overrides=note) + body
