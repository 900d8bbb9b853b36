"""The one-box engine: TRL's SFTTrainer, fed as NeMo-RL feeds its own, killed and resumed without a trace.

It reads <run>/trl.yaml (written by plan.py) and nothing else of the request. A step's batch counts
rows of the SFT file, however many micro-batches they make; the loss is the sum over output tokens by their
number in the whole batch, over all processes, as NeMo-RL normalises it. Run it alone or under torchrun.

Environment: OMR_DEADLINE (seconds since the epoch by which saving must begin), OMR_STOP (a file that asks for
the same now, as SIGTERM and SIGUSR2 do), OMR_LEASE (omr/run/lease.py), OMR_STEP_DELAY (seconds, for tests).
"""

import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from omr.errors import OmrError
from omr.files import lock
from omr.run import checkpoints, lease, stopping
from omr.training.trl import plan as trl_plan
from omr.training.trl import trainer as trl_trainer
from omr.training.trl.process_group import World, agree, leaving
from omr.training.trl.rows import Feed, Order, Rows, packed, padded
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


def train(folder: RunFolder, say: Callable[[str], None] = print) -> Outcome:
    """Train the run of `folder` to its end, or until it is asked to stop; resumes by itself.

    Raises an OmrError of one line for what is wrong with the folder, the data or the disk.
    """
    trl_plan.share_cores()
    world = World.of_environment()
    # Under a lease that decides who may write: the lock of an orphan, which is ending, must not hold it up.
    alone = world.first and lease.VARIABLE not in os.environ
    held = lock(folder.root / ".train.lock", str(folder.root)) if alone else contextlib.nullcontext()
    with held, leaving(world), stopping.by_flag() as asked:
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
            agree(start)
        say(f"training goes on from step {start}" if start else "training begins")
        return start
    return agree(None)


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
    return trl_trainer.make_class()(folder, plan, world, model, tokenizer, feed, gpu, asked)


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
        agree(None)
    rows = Rows(path, index, plan.data["limit"])
    if world.size > 1 and world.first:
        agree(len(rows))
    if rows.found != plan.data["rows"]:
        raise OmrError(
            f"{path}: has {rows.found} rows, its manifest says {plan.data['rows']}; make data again"
        )
    return rows


def main(root: str) -> int:
    """One process of torchrun: `python -m omr.training.trl.engine RUN_FOLDER`."""
    try:
        train(RunFolder(Path(root)))
    except OmrError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1])
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of torch's libraries can abort a process on its long way out, and a finished training with it.
    os._exit(code)
