"""The one-box engine: TRL's SFTTrainer, fed as NeMo-RL feeds its own, killed and resumed without a trace.

It reads <run>/trl.yaml (written by omr/trl_plan.py) and nothing else of the request. A step's batch counts
rows of the SFT file, however many micro-batches they make; the loss is the sum over output tokens by their
number in the whole batch, over all processes, as NeMo-RL normalises it. Run it alone or under torchrun.

Environment: OMR_DEADLINE (seconds since the epoch by which saving must begin), OMR_STOP (a file that asks for
the same now, as SIGTERM and SIGUSR2 do), OMR_LEASE (see omr/lease.py), OMR_STEP_DELAY (seconds, for tests).
"""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from omr import checkpoints, lease, stopping, trl_plan, weights
from omr.errors import OmrError
from omr.files import lock, need_space, read_json, write_json
from omr.metrics import Metrics
from omr.progress import Progress
from omr.sft_rows import Feed, Order, Rows, Share, packed, padded
from omr.workspace import RunFolder

LOOKED_AT = 1000  # rows whose length is counted before training


@dataclass(frozen=True)
class Outcome:
    """How a session of training ended."""

    step: int
    steps: int

    @property
    def complete(self) -> bool:
        """Whether the last step was reached."""
        return self.step >= self.steps


@dataclass(frozen=True)
class World:
    """This process among those of torchrun."""

    rank: int
    size: int

    @classmethod
    def of_environment(cls) -> "World":
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def first(self) -> bool:
        return self.rank == 0


def train(folder: RunFolder, say: Callable[[str], None] = print) -> Outcome:
    """Train the run of `folder` to its end, or until it is asked to stop; resumes by itself.

    Raises an OmrError of one line for what is wrong with the folder, the data or the disk.
    """
    trl_plan.share_cores()
    world = World.of_environment()
    # Under a lease that decides who may write: the lock of an orphan, which is ending, must not hold it up.
    alone = world.first and lease.VARIABLE not in os.environ
    held = lock(folder.root / ".train.lock", str(folder.root)) if alone else contextlib.nullcontext()
    with held, stopping.by_flag() as asked:
        start = _newest(folder, world, say)  # the others wait here until the first one's files are written
        plan = trl_plan.read(folder)
        if start >= plan.steps:
            return Outcome(start, plan.steps)
        _quiet()
        trainer = _trainer(folder, plan, world, start, asked, say)
        from torch import OutOfMemoryError

        try:
            trainer.train(resume_from_checkpoint=str(folder.checkpoint(start)) if start else None)
        except OutOfMemoryError:
            raise OmrError(
                f"{plan.title}: the GPU's memory ran out; choose RUNNER=slurm or a smaller MODEL"
            ) from None
        finally:
            trainer.close()
        return Outcome(trainer.state.global_step, plan.steps)


def _newest(folder: RunFolder, world: World, say: Callable[[str], None]) -> int:
    """The step to go on from; the first process mends the folder before the others look."""
    if world.first:
        for line in checkpoints.mend(folder.checkpoints):
            say(line)
        there = checkpoints.whole(folder.checkpoints)
        start = max(there, default=0)
        if world.size > 1:
            _agree(start)
        say(f"training goes on from step {start}" if start else "training begins")
        return start
    return _agree(None)


def _agree(value: int | None) -> int:
    """The first process's number, in every process."""
    import torch
    from torch import distributed

    _join()
    told = torch.tensor([value or 0])
    distributed.broadcast(told, 0)
    return int(told)


def _join() -> None:
    import torch
    from torch import distributed

    if not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")


def _quiet() -> None:
    """No warnings and bars of the libraries: what a person must know is said by us."""
    import warnings

    import transformers

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module="torch|transformers|trl|accelerate")


def _trainer(
    folder: RunFolder,
    plan: trl_plan.Plan,
    world: World,
    start: int,
    asked: list[str],
    say: Callable[[str], None],
) -> object:
    """The trainer of a run, ready at step `start`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gpu = plan.gpu and torch.cuda.is_available()
    if not gpu:
        torch.set_num_threads(plan.threads)
    base = Path(plan.model)
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(
        base,
        dtype=torch.float32,  # master weights; a GPU computes in bf16
        attn_implementation=_attention(gpu),
        use_safetensors=True,
        trust_remote_code=False,
    )
    rows = _rows(folder, plan, world)
    cut = (
        packed(plan.sequence_length)
        if plan.packed
        else padded(max(trl_plan.CPU_TOKENS, plan.sequence_length))
    )
    steps = range(start, plan.steps)
    order = Order(len(rows), plan.batch)
    feed = Feed(rows, order, tokenizer, plan.sequence_length, cut, steps, world.rank, world.size)
    if world.first:
        seen, over = feed.over_length(LOOKED_AT)
        if over:
            say(
                f"{over:,} of {seen:,} rows looked at have over {plan.sequence_length:,} tokens:"
                " they count in a batch and train nothing, as NeMo-RL has it"
            )
    return _class()(folder, plan, world, model, tokenizer, feed, gpu, asked)


def _attention(gpu: bool) -> str:
    from transformers.utils import is_flash_attn_2_available

    return "flash_attention_2" if gpu and is_flash_attn_2_available() else "sdpa"


def _rows(folder: RunFolder, plan: trl_plan.Plan, world: World) -> Rows:
    path, index = Path(plan.data["path"]), folder.root / f"rows-{plan.data['sha256'][:12]}.npy"
    if path.stat().st_size != plan.data["size"]:
        raise OmrError(
            f"{path}: has {path.stat().st_size} bytes, this run was begun with {plan.data['size']};"
            " bring the old file back, or set NAME=… for a run of its own"
        )
    if world.size > 1 and not world.first:
        _agree(None)
    rows = Rows(path, index, plan.data["limit"])
    if world.size > 1 and world.first:
        _agree(len(rows))
    if rows.found != plan.data["rows"]:
        raise OmrError(
            f"{path}: has {rows.found} rows, its manifest says {plan.data['rows']}; make data again"
        )
    return rows


def _class() -> type:
    """Our trainer; a class within a function, because its parent takes seconds to import."""
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
            self.share = Share(0, [], 0, 0, 0)
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
            self.share = share
            sums = torch.tensor([share.trained, share.tokens, share.over_length], dtype=torch.float64)
            most = torch.tensor([len(share.micro), int(self._must_stop())])
            if self.world.size > 1:
                sums, most = sums.to(device), most.to(device)
                distributed.all_reduce(sums)
                distributed.all_reduce(most, distributed.ReduceOp.MAX)
            self.trained, self.tokens, self.over_length = (int(n) for n in sums.tolist())
            count, self.last = most.tolist()
            # Processes talk after each micro-batch: all of them need the same number of these.
            micro = [*share.micro, *([self.empty] * (max(count, 1) - len(share.micro)))]
            return [micro], torch.tensor(max(self.trained, 1), device=device)

        def training_step(self, model, inputs, num_items_in_batch=None):  # noqa: ANN202
            time.sleep(float(os.environ.get("OMR_STEP_DELAY") or 0))  # tests of chains and kills set it
            total = torch.zeros((), device=self.args.device)
            for n, rows in enumerate(inputs):
                last = n == len(inputs) - 1
                with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                    total += super().training_step(model, dict(self.micro_batch(rows)), num_items_in_batch)
            return total

        def _must_stop(self) -> bool:
            """Whether to save and stop after this step: asked to, or after the next it would be too late."""
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
            loss = tr_loss.detach().clone()
            if self.world.size > 1:
                distributed.all_reduce(loss)
                loss /= self.world.size
            if not torch.isfinite(loss):
                raise OmrError(f"{self.plan.title}: the loss of step {step} is {loss.item()}; lower the rate")
            tr_loss.zero_()
            self._metrics["train"].clear()
            self._globalstep_last_logged = step
            self.step_seconds = max(self.step_seconds, time.monotonic() - self.began)
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
            if self.plan.saved(step) or self.last:
                self._save(step)
            if self.last or step >= self.plan.steps:
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


def main(root: str) -> int:
    """One process of torchrun: `python -m omr.trl_engine RUN_FOLDER`."""
    try:
        train(RunFolder(Path(root)))
    except OmrError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
