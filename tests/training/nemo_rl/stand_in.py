"""NeMo-RL's own SFT script under our driver, on a CPU: a policy of ours trains in place of its Policy.

Runs in the environment of `docker/venv nemo-rl`, from the folder of a checkout of the pinned NeMo-RL:
    python tests/training/nemo_rl/stand_in.py --config <run>/nemo_rl.yaml

Everything from the file to the policy is NeMo-RL's: configuration, Ray, tokenizer, data set, loader, loss
masks, packing, loss, loggers, checkpoint manager, the loop. Replaced are its RayVirtualCluster and its
Policy, which want GPUs and Megatron. Packages that this way through it never calls are empty (UNUSED).

Environment, beside the driver's: OMR_STAND_IN_ROWS (a file that gets one JSON line a step, the rows that
reached the policy), OMR_STEP_DELAY (seconds that each step waits).
"""

import json
import math
import os
import sys
import time
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

# Megatron's layers, vLLM's server, other loggers, video: imported by NeMo-RL's modules, and not used here.
UNUSED = ("decord", "fastapi", "megatron", "mlflow", "swanlab", "uvicorn")
THREADS = 2  # as the one-box engine: another number adds up in another order
WEIGHTS = "__0_0.distcp"  # Megatron's name for the first rank's part


class UnusedModule(ModuleType):
    """A package of which any name is an empty class."""

    __path__ = ()

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class Unused(MetaPathFinder, Loader):
    """Finds each package of UNUSED, and all below it, as an UnusedModule."""

    def find_spec(self, fullname, path=None, target=None):
        return ModuleSpec(fullname, self, is_package=True) if fullname.split(".")[0] in UNUSED else None

    def create_module(self, spec):
        return UnusedModule(spec.name)

    def exec_module(self, module):
        pass


class Cluster:
    """In place of RayVirtualCluster: as many places for workers as are asked for, without GPUs."""

    def __init__(self, bundle_ct_per_node_list, **_):
        self.places = sum(bundle_ct_per_node_list)

    def world_size(self):
        return self.places


class Policy:
    """In place of NeMo-RL's Policy: one process trains the model as Megatron's worker would, in fp32.

    Adam, decay, clip and rates are those of `policy.megatron_cfg`; no decay on vectors, as in Megatron.
    """

    def __init__(self, cluster, config, tokenizer, weights_path=None, optimizer_path=None, **_):
        import torch
        from transformers import AutoModelForCausalLM

        assert config["precision"] == "float32" and cluster.world_size() == 1
        assert config["megatron_cfg"]["train_iters"] > 0
        torch.set_num_threads(THREADS)
        self.config, self.megatron, self.done = config, config["megatron_cfg"], 0
        self.model = AutoModelForCausalLM.from_pretrained(config["model_name"], dtype=torch.float32)
        for module in self.model.modules():
            if hasattr(module, "variance_epsilon"):
                module.variance_epsilon = self.megatron["layernorm_epsilon"]
        adam, scheduler = self.megatron["optimizer"], self.megatron["scheduler"]
        assert scheduler["start_weight_decay"] == scheduler["end_weight_decay"]
        weights = list(self.model.parameters())
        groups = [
            {"params": [p for p in weights if p.ndim > 1], "weight_decay": scheduler["end_weight_decay"]},
            {"params": [p for p in weights if p.ndim == 1], "weight_decay": 0.0},
        ]
        betas = (adam["adam_beta1"], adam["adam_beta2"])
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=adam["adam_eps"])
        if weights_path:
            assert optimizer_path, "NeMo-RL does not find the optimizer's state in the checkpoint"
            saved = torch.load(Path(weights_path, "iter_0000000", WEIGHTS))
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.done = saved["done"]

    def print_node_ip_and_gpu_id(self):
        pass

    def prepare_for_training(self):
        self.model.train()

    @property
    def sharding_annotations(self):
        """One data-parallel rank."""
        return self

    def get_axis_size(self, name):
        assert name == "data_parallel"
        return 1

    def rate(self):
        """The learning rate of the next step: Megatron's warmup and cosine, from the number of steps done."""
        top, least = (self.megatron["optimizer"][key] for key in ("lr", "min_lr"))
        scheduler = self.megatron["scheduler"]
        first, warmup = scheduler["lr_warmup_init"], scheduler["lr_warmup_iters"]
        assert scheduler["lr_decay_style"] == "cosine"
        if self.done <= warmup:
            return first + (top - first) * self.done / warmup
        share = min(1.0, (self.done - warmup) / (scheduler["lr_decay_iters"] - warmup))
        return least + (top - least) * 0.5 * (1 + math.cos(math.pi * share))

    def train(self, data, loss_fn, eval_mode=False, gbs=None, **_):
        """One optimiser step on a batch: NeMo-RL's packing makes the micro-batches, its loss the loss.

        With `eval_mode` the loss alone is told, as Megatron's worker does it.
        """
        import torch

        packing, size = self.config["sequence_packing"], gbs or self.config["train_global_batch_size"]
        assert packing["enabled"] and len(data["sample_mask"]) == size
        if not eval_mode:
            time.sleep(float(os.environ.get("OMR_STEP_DELAY") or 0))
            note_rows(data)
        self.model.train(not eval_mode)
        words = {
            "algorithm": packing["algorithm"],
            "input_key": "input_ids",
            "input_lengths_key": "input_lengths",
            "sequence_length_pad_multiple": self.config["make_sequence_length_divisible_by"],
            "max_tokens_per_microbatch": packing["train_mb_tokens"],
        }
        shards, _order = data.shard_by_batch_size(1, batch_size=size, sequence_packing_args=words)
        batch = shards[0].get_batch(batch_idx=0, batch_size=size)
        rows = batch["sample_mask"].sum()
        tokens = (batch["token_mask"][:, 1:] * batch["sample_mask"].unsqueeze(-1)).sum()
        rate = self.rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        metrics = {}
        for part in batch.make_microbatch_iterator_for_packable_sequences():
            ids = part["input_ids"]
            with torch.set_grad_enabled(not eval_mode):
                logits = self.model(input_ids=ids).logits[:, :-1].float()
                chosen = torch.log_softmax(logits, -1).gather(-1, ids[:, 1:].unsqueeze(-1)).squeeze(-1)
                loss, told = loss_fn(chosen, part, global_valid_seqs=rows, global_valid_toks=tokens)
            if not eval_mode:
                loss.backward()
            told |= {"lr": rate, "global_valid_seqs": rows.item(), "global_valid_toks": tokens.item()}
            for key, value in told.items():
                metrics.setdefault(key, []).append(value)
        if eval_mode:
            total = torch.tensor([sum(metrics["loss"])])
            return {"loss": total, "grad_norm": torch.zeros(1), "all_mb_metrics": metrics}
        norm = torch.nn.utils.clip_grad_norm_(
            self.model.parameters(), self.megatron["optimizer"]["clip_grad"]
        )
        self.optimizer.step()
        self.done += 1
        return {
            "loss": torch.tensor(metrics["loss"]),
            "grad_norm": norm.reshape(1),
            "all_mb_metrics": metrics,
        }

    def save_checkpoint(self, weights_path, optimizer_path, **_):
        """Files where Megatron has them: `optimizer_path` is a flag alone, and no tokenizer is written."""
        import torch

        folder = Path(weights_path, "iter_0000000")
        folder.mkdir(parents=True)
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "done": self.done,
        }
        torch.save(state, folder / WEIGHTS)
        torch.save({"optimizer": {}} if optimizer_path else {}, folder / "common.pt")
        (folder / ".metadata").write_text("{}")


def note_rows(data):
    """Write down what reached the policy: of each row its tokens, their loss mask, and whether it counts."""
    if path := os.environ.get("OMR_STAND_IN_ROWS"):
        keys = ("input_ids", "token_mask", "input_lengths", "sample_mask")
        rows = [
            {"ids": ids[:length], "mask": mask[:length], "counts": bool(counts)}
            for ids, mask, length, counts in zip(*(data[key].tolist() for key in keys), strict=True)
        ]
        with Path(path).open("a") as handle:
            handle.write(json.dumps(rows) + "\n")


def main(argv, environ):
    """Replace the two names, and hand over to the driver, which patches its own and runs NeMo-RL's script."""
    sys.meta_path.insert(0, Unused())
    sys.path.insert(0, str(Path.cwd()))
    import nemo_rl.algorithms.sft as sft

    from omr.training.nemo_rl import driver

    assert hasattr(sft, "Policy") and hasattr(sft, "RayVirtualCluster")
    sft.Policy, sft.RayVirtualCluster = Policy, Cluster
    driver.main(argv, environ)


if __name__ == "__main__":
    main(sys.argv[1:], dict(os.environ))
