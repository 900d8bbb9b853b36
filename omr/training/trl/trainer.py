"""TRL's SFTTrainer, made to train a step's whole batch at a time and to save its checkpoints our way.

This module imports torch and TRL, which takes seconds: import it only inside the function that trains.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Dataset
from safetensors import SafetensorError
from torch import distributed
from transformers import PreTrainedModel, PrinterCallback
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from omr.errors import OmrError
from omr.files import need_space, read_json, write_json
from omr.models import weights
from omr.run import checkpoints
from omr.training.trl.config import recomputes
from omr.training.trl.feed import NO_LOSS, BatchFeed, EncodedRow, StepBatch
from omr.training.trl.reporter import Reporter
from omr.training.trl.session import Session
from omr.training.trl.validation.loss import measure
from omr.training.trl.validation.rows import HeldOutSplit

SAVED = 12  # bytes a parameter in a checkpoint: fp32 weights and Adam's two moments


@dataclass(frozen=True)
class BatchTotals:
    """Counts of a step's batch over all processes."""

    trained_tokens: int  # tokens with a loss
    tokens: int
    rows_over_length: int


class FeedLoader:
    """The feed as transformers' Trainer wants it: a data loader of one epoch that is the whole run."""

    dataset = ()

    def __init__(self, feed: BatchFeed) -> None:
        self.feed = feed

    def __len__(self) -> int:
        return self.feed.steps.stop

    def __iter__(self) -> Iterator[StepBatch]:
        return iter(self.feed)


class Trainer(SFTTrainer):
    """SFTTrainer that trains a step's whole batch at a time and writes omr/run/checkpoints.py's checkpoints.

    The loss of a step is the sum over its trained tokens divided by their number in the whole batch, over all
    micro-batches and processes. Metrics, saving and stopping come after each step; transformers' own logging,
    saving and sampling are off.
    """

    def __init__(
        self, model: PreTrainedModel, feed: BatchFeed, held_out: Sequence[HeldOutSplit], session: Session
    ) -> None:
        self.feed, self.held_out, self.session = feed, held_out, session
        config, tokenizer = session.config, feed.tokenizer
        parameters = sum(p.numel() for p in model.parameters())
        pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self.collate = DataCollatorForLanguageModeling(pad, padding_free=config.packed)
        # What a process trains that has fewer micro-batches than another one: no token of it has a loss.
        self.filler = [EncodedRow(input_ids=[pad, pad], labels=[NO_LOSS, NO_LOSS])]
        self.step_began = time.monotonic()
        self.totals: BatchTotals | None = None
        super().__init__(
            model=model,
            args=sft_config(session, parameters),
            # SFTTrainer looks at one row, to see that rows are tokenised already; the feed brings the others.
            train_dataset=Dataset.from_list(feed.encode([0])),
            processing_class=tokenizer,
            data_collator=None if config.packed else self.collate,
        )
        self.remove_callback(PrinterCallback)
        self.reporter = None
        if session.processes.is_first:
            self.reporter = Reporter(session.folder, config, session.start)
            saves = sum(config.saves(step + 1) for step in feed.steps) + 2 * bool(config.recovery)
            need_space(
                session.folder.root, saves * SAVED * parameters, f"{saves} checkpoints of {config.title}"
            )

    # The data of a step.

    def get_train_dataloader(self) -> FeedLoader:
        """The feed in place of a loader of `train_dataset`."""
        return FeedLoader(self.feed)

    def num_examples(self, dataloader: FeedLoader) -> int:
        """Rows of the whole run, which transformers keeps in its state."""
        return self.session.config.steps * self.session.config.batch

    def floating_point_ops(self, inputs: list[list[EncodedRow]]) -> int:
        """Not counted: transformers' own count expects tensors here."""
        return 0

    def get_batch_samples(
        self, epoch_iterator: Iterator[StepBatch], num_batches: int, device: torch.device
    ) -> tuple[list[list[list[EncodedRow]]], torch.Tensor | None]:
        """One sample, which is all micro-batches of the step, and the number of its trained tokens."""
        batch = next(epoch_iterator, None)
        if batch is None:
            return [], None
        self.step_began = time.monotonic()
        self.totals, most = self._over_all_processes(batch, device)
        # SFTTrainer gathers its metrics in each micro-batch: each process needs the same number of them.
        missing = most - len(batch.micro_batches)
        sample = [*batch.micro_batches, *[self.filler] * missing]
        return [sample], torch.tensor(max(1, self.totals.trained_tokens), device=device)

    def _over_all_processes(self, batch: StepBatch, device: torch.device) -> tuple[BatchTotals, int]:
        """The counts of a batch, and the largest number of micro-batches of a process (1 at least)."""
        counts = (batch.trained_tokens, batch.tokens, batch.rows_over_length)
        sums = torch.tensor(counts, dtype=torch.float64)
        most = torch.tensor(max(1, len(batch.micro_batches)))
        if not self.session.processes.is_alone:
            sums, most = sums.to(device), most.to(device)
            distributed.all_reduce(sums)
            distributed.all_reduce(most, distributed.ReduceOp.MAX)
        return BatchTotals(*(int(n) for n in sums.tolist())), int(most)

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: list[list[EncodedRow]],
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Forward and backward of all micro-batches of a step; returns the sum of their losses."""
        time.sleep(float(os.environ.get("OMR_STEP_DELAY") or 0))  # tests of chains and kills set it
        total = torch.zeros((), device=self.args.device)
        for n, rows in enumerate(inputs):
            last = n == len(inputs) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                total += super().training_step(model, dict(self.collate(rows)), num_items_in_batch)
        return total

    # What follows a step.

    def _maybe_log_save_evaluate(
        self,
        tr_loss: torch.Tensor,
        grad_norm: torch.Tensor | float,
        *_: object,
        learning_rate: float | None = None,
        **__: object,
    ) -> None:
        """Replaces transformers' own after each step: report it, save when it is time, stop when asked."""
        step, config = self.state.global_step, self.session.config
        if step == self._globalstep_last_logged:
            return
        self._globalstep_last_logged = step
        self.session.stop_rule.step_took(time.monotonic() - self.step_began)
        loss, stop = self._mean_loss_and_stop(tr_loss)
        if not torch.isfinite(loss):
            raise OmrError(f"{config.title}: the loss of step {step} is {loss.item()}; lower the rate")
        tr_loss.zero_()
        self._metrics["train"].clear()  # SFTTrainer's own, which would grow without end
        rate = self.totals.tokens / (time.monotonic() - self.step_began)
        # A forward pass is a third of a row's training. What a save has taken counts where it is more.
        tokens = sum(split.tokens for split in self.held_out) * self.session.processes.size
        self.session.stop_rule.measuring_seconds = tokens / rate / 3 if rate else 0.0
        saving_began = time.monotonic()
        held_out = self._held_out_losses() if config.saves(step) else {}
        if self.reporter:
            self.reporter.step(
                step,
                loss=loss.item(),
                lr=learning_rate,
                grad_norm=float(grad_norm),
                tokens=self.totals.tokens,
                tokens_per_second=rate,
                rows_over_length=self.totals.rows_over_length,
                **held_out,
            )
        if config.saves(step) or config.saves_for_recovery(step) or stop:
            self._save_step(step)
            # Measuring is a part of it: the last save has to end by the deadline with it.
            self.session.stop_rule.save_took(time.monotonic() - saving_began)
        if stop or step >= config.steps:
            self.control.should_training_stop = True

    def _mean_loss_and_stop(self, loss: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """The loss, averaged over the processes (float64), and whether one of them must stop."""
        must_stop = self.session.stop_rule.must_stop()
        sums = torch.stack([loss.detach().double(), loss.new_tensor(must_stop).double()])
        if not self.session.processes.is_alone:
            distributed.all_reduce(sums)
        return sums[0] / self.session.processes.size, bool(sums[1])

    def _held_out_losses(self) -> dict[str, float]:
        """The losses on held-out rows by name."""
        # Not by the wrapper that shares gradients: processes need not have the same number of micro-batches.
        packed, processes = self.session.config.packed, self.session.processes
        return measure(self.model, self.held_out, packed, self.args.device, processes)

    # Checkpoints.

    def _save_step(self, step: int) -> None:
        """Save by the first process; the others wait for it."""
        if self.session.processes.is_first:
            self._write_checkpoint(step)
        if not self.session.processes.is_alone:
            distributed.barrier()

    def _write_checkpoint(self, step: int) -> None:
        """Write checkpoints/step_<n>, whole or not at all, and remove those that are no longer needed."""
        folder, config = self.session.folder, self.session.config
        self.reporter.flush()
        self.state.log_history = []  # metrics.jsonl has it
        try:
            with checkpoints.saving(folder.checkpoints, step, config.identity) as aside:
                self._write_parts(aside)
        except (OSError, RuntimeError, SafetensorError) as error:
            # torch and safetensors have errors of their own for a full disk.
            why = str(error).splitlines()[0]
            raise OmrError(
                f"{folder.checkpoint(step)}: could not be saved ({why}); check the disk, then run again"
            ) from None
        saved = checkpoints.Checkpoints(folder, "trl")
        saved.remove(checkpoints.steps(folder.checkpoints), config.saves)
        saved.drop_set_aside()

    def _write_parts(self, aside: Path) -> None:
        """Write all that decides the next step, by transformers' names, and the side files of the base."""
        self.accelerator.unwrap_model(self.model).save_pretrained(aside)
        for path in weights.side_files(Path(self.session.config.model)):
            shutil.copyfile(path, aside / path.name)
        model_config = read_json(aside / "config.json")
        stored_as = {key: "float32" for key in ("torch_dtype", "dtype") if key in model_config}
        write_json(aside / "config.json", {**model_config, **stored_as})
        self._save_optimizer_and_scheduler(str(aside))
        torch.save({"cpu": torch.random.get_rng_state()}, aside / "rng_state.pth")
        self.state.save_to_json(str(aside / "trainer_state.json"))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Set torch's random state to the checkpoint's; transformers' own would read a pickle."""
        if checkpoint:
            states = torch.load(Path(checkpoint, "rng_state.pth"), weights_only=True)
            torch.random.set_rng_state(states["cpu"])

    def close(self) -> None:
        """End the progress line and close the metrics."""
        if self.reporter:
            self.reporter.close()


def sft_config(session: Session, parameters: int) -> SFTConfig:
    """The run's numbers under transformers' names; `parameters`: of the model."""
    config, processes, gpu = session.config, session.processes, session.gpu
    return SFTConfig(
        output_dir=str(session.folder.checkpoints),
        max_steps=config.steps,
        per_device_train_batch_size=max(1, config.batch // processes.size),
        gradient_accumulation_steps=1,  # training_step trains a whole batch
        learning_rate=config.lr,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr": config.min_lr},
        warmup_steps=config.warmup,
        optim="adamw_torch_fused" if gpu else "adamw_torch",
        adam_beta1=config.betas[0],
        adam_beta2=config.betas[1],
        adam_epsilon=config.eps,
        weight_decay=config.weight_decay,
        max_grad_norm=config.clip,
        bf16=gpu,
        use_cpu=not gpu,
        gradient_checkpointing=recomputes(parameters),
        ddp_backend=None if processes.is_alone else "nccl" if gpu else "gloo",
        ddp_find_unused_parameters=None if processes.is_alone else False,
        padding_free=config.packed,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        ignore_data_skip=True,  # the feed begins at the right step
        logging_strategy="no",
        logging_nan_inf_filter=False,  # it would hide such a loss
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        seed=config.seed,
    )
