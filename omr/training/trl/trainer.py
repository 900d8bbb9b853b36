"""TRL's SFTTrainer, made to train a step's whole batch at a time and to save our way."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from omr.errors import OmrError
from omr.files import need_space, read_json, write_json
from omr.models import weights
from omr.progress import Progress
from omr.run import checkpoints, lease
from omr.run.metrics import Metrics
from omr.training.trl import plan as trl_plan
from omr.training.trl.process_group import World
from omr.training.trl.rows import Feed, Share
from omr.workspace import RunFolder


def make_class() -> type:
    """The trainer; a class within a function, because its parent takes seconds to import."""
    import torch
    from datasets import Dataset
    from safetensors import SafetensorError
    from torch import distributed
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    class Trainer(SFTTrainer):
        """SFTTrainer whose unit is a step's whole batch, and whose checkpoints are ours."""

        def __init__(self, folder, plan, world, model, tokenizer, feed, gpu, asked) -> None:
            self.folder, self.plan, self.world, self.feed, self.asked = folder, plan, world, feed, asked
            self.began = time.monotonic()
            self.save_seconds = self.step_seconds = 0.0
            parameters = sum(p.numel() for p in model.parameters())
            pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
            self.micro_batch = DataCollatorForLanguageModeling(pad, padding_free=plan.packed)
            self.empty = [{"input_ids": [pad, pad], "labels": [-100, -100]}]
            super().__init__(
                model=model,
                args=SFTConfig(**_arguments(plan, folder, world, gpu, parameters)),
                # It looks at one row, to see that rows are tokenised already; the others come from our feed.
                train_dataset=Dataset.from_list(feed.encode([0])),
                processing_class=tokenizer,
                data_collator=None if plan.packed else self.micro_batch,
            )
            self.remove_callback(PrinterCallback)
            first = feed.steps.start
            self.metrics = Metrics(folder, first) if world.first else None
            self.progress = Progress(plan.title, plan.steps, "steps") if world.first else None
            if self.progress:
                self.progress.start(first)
                saves = len([s for s in feed.steps if plan.saved(s + 1)])
                need_space(folder.root, saves * 12 * parameters, f"{saves} checkpoints of {plan.title}")

        def get_train_dataloader(self) -> "Trainer._Steps":
            return self._Steps(self.feed)

        class _Steps:
            """The feed as a loader of one epoch that is the whole run."""

            dataset = ()

            def __init__(self, feed: Feed) -> None:
                self.feed = feed

            def __len__(self) -> int:
                return self.feed.steps.stop

            def __iter__(self) -> Iterator[Share]:
                return iter(self.feed)

        def num_examples(self, dataloader: object) -> int:
            return self.plan.steps * self.plan.batch

        def floating_point_ops(self, inputs: object) -> int:
            return 0

        def get_batch_samples(self, epoch_iterator, num_batches, device):  # noqa: ANN202
            """The step's share of this process, and the number of trained tokens of all of them."""
            share = next(epoch_iterator, None)
            if share is None:
                return [], None
            self.began = time.monotonic()
            sums = torch.tensor([share.trained, share.tokens, share.over_length], dtype=torch.float64)
            count = torch.tensor(max(1, len(share.micro)))
            if self.world.size > 1:
                sums, count = sums.to(device), count.to(device)
                distributed.all_reduce(sums)
                distributed.all_reduce(count, distributed.ReduceOp.MAX)
            self.trained, self.tokens, self.over_length = (int(n) for n in sums.tolist())
            # Processes talk after each micro-batch: all of them need the same number of these.
            micro = [*share.micro, *([self.empty] * (int(count) - len(share.micro)))]
            return [micro], torch.tensor(max(1, self.trained), device=device)

        def training_step(self, model, inputs, num_items_in_batch=None):  # noqa: ANN202
            time.sleep(float(os.environ.get("OMR_STEP_DELAY") or 0))  # tests of chains and kills set it
            total = torch.zeros((), device=self.args.device)
            for n, rows in enumerate(inputs):
                last = n == len(inputs) - 1
                with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                    total += super().training_step(model, dict(self.micro_batch(rows)), num_items_in_batch)
            return total

        def _must_stop(self) -> bool:
            """Whether to save and stop now: asked to, or after the next step it would be too late."""
            lease.check()
            left = float(os.environ.get("OMR_DEADLINE") or "inf") - time.time()
            late = left < 2 * self.step_seconds + self.save_seconds
            stop = os.environ.get("OMR_STOP")
            return bool(self.asked or late or (stop and Path(stop).exists()))

        def _maybe_log_save_evaluate(self, tr_loss, grad_norm, *rest, learning_rate=None, **more) -> None:
            """After each step: write its numbers, save when it is time, stop when it must."""
            step = self.state.global_step
            if step == self._globalstep_last_logged:
                return
            self.step_seconds = max(self.step_seconds, time.monotonic() - self.began)
            told = torch.stack([tr_loss.detach().double(), tr_loss.new_tensor(self._must_stop()).double()])
            if self.world.size > 1:
                distributed.all_reduce(told)
            loss, stop = told[0] / self.world.size, bool(told[1])
            if not torch.isfinite(loss):
                raise OmrError(f"{self.plan.title}: the loss of step {step} is {loss.item()}; lower the rate")
            tr_loss.zero_()
            self._metrics["train"].clear()
            self._globalstep_last_logged = step
            if self.metrics:
                self.metrics.add(
                    step,
                    loss=loss.item(),
                    lr=learning_rate,
                    grad_norm=float(grad_norm),
                    tokens=self.tokens,
                    tokens_per_second=self.tokens / (time.monotonic() - self.began),
                    rows_over_length=self.over_length,
                )
                self.progress.what = f"{self.plan.title}, loss {loss.item():.3f}"
                self.progress.set(step)
            if self.plan.saved(step) or stop:
                self._save(step)
            if stop or step >= self.plan.steps:
                self.control.should_training_stop = True

        def _save(self, step: int) -> None:
            """Save by the first process; the others wait for it."""
            began = time.monotonic()
            if self.world.first:
                self.metrics.flush()
                self.state.log_history = []  # metrics.jsonl has it
                try:
                    with checkpoints.saving(self.folder.checkpoints, step, self.plan.identity) as aside:
                        self._write(aside)
                except (OSError, RuntimeError, SafetensorError) as error:
                    # torch and safetensors have errors of their own for a full disk.
                    why = str(error).splitlines()[0]
                    raise OmrError(
                        f"{self.folder.checkpoint(step)}: could not be saved ({why}); mend it and run again"
                    ) from None
                checkpoints.tidy(self.folder.checkpoints, self.plan.saved)
            if self.world.size > 1:
                distributed.barrier()
            self.save_seconds = max(self.save_seconds, time.monotonic() - began)

        def _write(self, aside: Path) -> None:
            """What decides the next step, and the base's side files, by transformers' names."""
            self.accelerator.unwrap_model(self.model).save_pretrained(aside)
            for path in weights.side_files(Path(self.plan.model)):
                shutil.copyfile(path, aside / path.name)
            config = read_json(aside / "config.json")
            kept_as = {key: "float32" for key in ("torch_dtype", "dtype") if key in config}
            write_json(aside / "config.json", {**config, **kept_as})
            self._save_optimizer_and_scheduler(str(aside))
            torch.save({"cpu": torch.random.get_rng_state()}, aside / "rng_state.pth")
            self.state.save_to_json(str(aside / "trainer_state.json"))

        def _load_rng_state(self, checkpoint: str | None) -> None:
            """Nothing in a step is random, but what would be goes on where it was."""
            if checkpoint:
                states = torch.load(Path(checkpoint, "rng_state.pth"), weights_only=True)
                torch.random.set_rng_state(states["cpu"])

        def close(self) -> None:
            """End the progress line and the metrics."""
            if self.metrics:
                self.metrics.close()
                self.progress.close()

    return Trainer


def _arguments(plan: trl_plan.Plan, folder: RunFolder, world: World, gpu: bool, parameters: int) -> dict:
    """The run's numbers under the names of transformers' TrainingArguments."""
    return {
        "output_dir": str(folder.checkpoints),
        "max_steps": plan.steps,
        "per_device_train_batch_size": max(1, plan.batch // world.size),
        "gradient_accumulation_steps": 1,  # our step is a whole batch
        "learning_rate": plan.lr,
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr": plan.min_lr},
        "warmup_steps": plan.warmup,
        "optim": "adamw_torch_fused" if gpu else "adamw_torch",
        "adam_beta1": plan.betas[0],
        "adam_beta2": plan.betas[1],
        "adam_epsilon": plan.eps,
        "weight_decay": plan.weight_decay,
        "max_grad_norm": plan.clip,
        "bf16": gpu,
        "use_cpu": not gpu,
        "gradient_checkpointing": trl_plan.recomputes(parameters),
        "ddp_backend": ("nccl" if gpu else "gloo") if world.size > 1 else None,
        "ddp_find_unused_parameters": False if world.size > 1 else None,
        "padding_free": plan.packed,
        "max_length": None,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "ignore_data_skip": True,  # our feed begins at the right step
        "logging_strategy": "no",
        "logging_nan_inf_filter": False,  # it would hide them
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "log_level": "error",
        "seed": plan.seed,
    }
