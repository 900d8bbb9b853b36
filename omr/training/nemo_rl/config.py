"""A run -> the YAML that NeMo-RL reads.

The effective configuration equals NeMo-Skills' own SFT YAML (nemo_skills/training/nemo_rl/configs/sft.yaml
at the commit in docker/pins.env) plus the recipe's arguments. It is written out in the keys of the pinned
NeMo-RL, because NeMo-Skills' short names (policy.lr, policy.tensor_model_parallel_size, …) are dead there and
its example's defaults are others: a constant rate, weight decay 0.1, eps 1e-5, 1,000 decay steps.
"""

from pathlib import Path

from omr import recipe, settings
from omr.training.nemo_rl import checks, keys
from omr.workspace import RunFolder

BASE_YAML = "examples/configs/sft.yaml"
HEADER = """\
# What NeMo-RL reads for {title}: NeMo-Skills' SFT configuration plus the recipe's arguments, in full.
# Written by make train; {overrides}.
"""


def config(
    run: recipe.Run,
    folder: RunFolder,
    base: Path,
    data: Path,
    *,
    nodes: int | None = None,
    gpus: int | None = None,
    overrides: str | None = None,
    wandb: dict | None = None,
    engine_root: str = settings.NEMO_RL_FOLDER,
) -> dict:
    """The whole configuration as plain values; a RequestError where the parallel sizes cannot work.

    `wandb` has `project` and, if set, `entity`; None leaves W&B off, which NeMo-RL has on by default.
    """
    model, plan = run.model, run.schedule
    nodes, gpus = nodes or model.nodes, gpus or model.gpus
    names = {"project": "openmathreasoning", "name": f"{model.name}-{run.key}"}
    values = {
        "defaults": f"{engine_root}/{BASE_YAML}",
        "sft": {
            "max_num_steps": plan.steps,
            "max_num_epochs": 100,
            "seed": 42,
            # No validation set: it is never asked for.
            "val_period": 0,
            "val_batches": 1,
            "val_global_batch_size": 32,
            "val_micro_batch_size": 1,
            "val_at_start": False,
            "val_at_end": False,
        },
        "checkpointing": {
            "enabled": True,
            "checkpoint_dir": str(folder.checkpoints),
            # NeMo-Skills' val_loss fails at the first save without validation, and its keep_top_k of 50
            # without a metric deletes the oldest: null keeps every averaged step.
            "metric_name": None,
            "higher_is_better": False,
            "keep_top_k": None,
            "save_period": plan.save_period,
            "save_optimizer": True,
            "checkpoint_must_save_by": None,
        },
        "policy": _policy(run, base),
        "data": {
            # Drops the example's own train and validation blocks.
            "_override_": True,
            "max_input_seq_length": model.sequence_length,
            # The rows hold the whole text; nothing is added to it.
            "add_bos": False,
            "add_eos": False,
            "add_generation_prompt": False,
            "shuffle": True,
            "num_workers": 10,
            "train": {
                "dataset_name": "ResponseDataset",
                "data_path": str(data),
                "input_key": "input",
                "output_key": "output",
                "prompt_file": None,
                "system_prompt_file": None,
                "processor": "sft_processor",
            },
            "validation": None,
            "default": None,
        },
        "logger": {
            "log_dir": str(folder.logs / "nemo_rl"),
            "wandb_enabled": wandb is not None,
            "tensorboard_enabled": True,
            "mlflow_enabled": False,
            "swanlab_enabled": False,
            "monitor_gpus": True,
            "num_val_samples_to_print": 0,
            # One id per run, so that every link of a chain goes on in the same W&B run.
            "wandb": {**names, **(wandb or {}), "id": f"{model.name}-{run.key}", "resume": "allow"},
            "tensorboard": {"log_dir": "tensorboard"},
            "gpu_monitoring": {"collection_interval": 10, "flush_interval": 10},
        },
        "cluster": {"gpus_per_node": gpus, "num_nodes": nodes},
    }
    said = dict(keys.parse_overrides(overrides))
    for key, value in said.items():
        keys.put(values, key, value)
    if checks.DIVISOR not in said:
        padded = recipe.sequence_divisor(*checks.parallel(values)[:2])
        values["policy"]["make_sequence_length_divisible_by"] = padded
    keys.check(values)
    checks.chain(values, run, folder, base, data, nodes, gpus)
    checks.sizes(values, run)
    return values


def _policy(run: recipe.Run, base: Path) -> dict:
    model, plan = run.model, run.schedule
    tokens = model.sequence_length * 1  # one full-length row, or several packed, per micro-batch
    return {
        "model_name": str(base),
        # null: input and output are passed through as they were written.
        "tokenizer": {"name": str(base), "chat_template": None, "chat_template_kwargs": None},
        "train_global_batch_size": model.batch,
        "train_micro_batch_size": 1,
        "max_total_sequence_length": model.sequence_length,
        "precision": "bfloat16",
        "make_sequence_length_divisible_by": run.sequence_divisor,
        # NeMo-Skills leaves the clip out, which is Megatron's default of 1.0; null would crash there.
        "max_grad_norm": 1.0,
        "dtensor_cfg": {"enabled": False},
        "optimizer": None,
        "dynamic_batching": {"enabled": False},
        "sequence_packing": {
            "enabled": True,
            "train_mb_tokens": tokens,
            "logprob_mb_tokens": tokens,
            "algorithm": "modified_first_fit_decreasing",
            "sequence_length_round": 64,
        },
        "megatron_cfg": {
            "enabled": True,
            "empty_unused_memory_level": 0,
            "activation_checkpointing": False,
            "tensor_model_parallel_size": model.tensor_parallel,
            "context_parallel_size": model.context_parallel,
            "pipeline_model_parallel_size": 1,
            "expert_tensor_parallel_size": 1,
            "expert_model_parallel_size": 1,
            "sequence_parallel": False,
            "pipeline_dtype": "bfloat16",
            "num_layers_in_first_pipeline_stage": None,
            "num_layers_in_last_pipeline_stage": None,
            "freeze_moe_router": False,
            "moe_router_dtype": None,
            "moe_router_load_balancing_type": "aux_loss",
            "moe_router_bias_update_rate": 1e-3,
            "moe_permute_fusion": False,
            "bias_activation_fusion": True,
            "apply_rope_fusion": True,
            "layernorm_epsilon": 1e-6,
            "optimizer": {
                "optimizer": "adam",
                "lr": model.lr,
                "min_lr": model.min_lr,
                "weight_decay": 0.01,
                "bf16": True,
                "fp16": False,
                "params_dtype": "float32",
                "adam_beta1": 0.9,
                "adam_beta2": 0.98,
                "adam_eps": 1e-8,
                "sgd_momentum": 0.9,
                "use_distributed_optimizer": True,
                "use_precision_aware_optimizer": True,
                "clip_grad": 1.0,
                "optimizer_cpu_offload": False,
                "optimizer_offload_fraction": 0.0,
            },
            "scheduler": {
                "start_weight_decay": 0.01,
                "end_weight_decay": 0.01,
                "weight_decay_incr_style": "constant",
                "lr_decay_style": "cosine",
                "lr_decay_iters": plan.steps,
                "lr_warmup_iters": plan.warmup,
                "lr_warmup_init": 0,
            },
            # NeMo-Skills' average_in_collective has no place here: the pinned NeMo-RL sets it itself.
            "distributed_data_parallel_config": {
                "grad_reduce_in_fp32": False,
                "overlap_grad_reduce": True,
                "overlap_param_gather": True,
                "data_parallel_sharding_strategy": "optim_grads_params",
            },
        },
    }


def text(values: dict, run: recipe.Run, overrides: str | None = None) -> str:
    """The YAML file. `1.0e-08` and the like are floats to every reader."""
    import yaml

    note = f"OVERRIDES={overrides} is worked in" if overrides else "change it by OVERRIDES, not by hand"
    body = yaml.safe_dump(values, sort_keys=False, default_flow_style=False, width=110)
    return HEADER.format(title=run.title, overrides=note) + body
