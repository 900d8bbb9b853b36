"""The one-box engine: trains a run from <run>/trl.yaml with TRL's SFTTrainer, and resumes it after any end.

A step's batch counts rows of the SFT file, however many micro-batches they make. The loss is the sum over the
output's tokens divided by their number in the whole batch, over all processes: NeMo-RL normalises it so. On
the CPU a training that was killed and resumed gives the same bytes as an undisturbed one. Runs alone or under
torchrun.

Environment: OMR_DEADLINE (seconds since the epoch by which the last save must have ended), OMR_STOP (a file
whose appearance asks to save and stop, as SIGTERM and SIGUSR2 do), OMR_LEASE (omr/run/lease.py),
OMR_STEP_DELAY (seconds that each step waits, for tests).
"""

import contextlib
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omr.errors import OmrError
from omr.files import lock
from omr.processes import let_threads_sleep, quiet
from omr.run import events, lease, stopping
from omr.run.checkpoints import Checkpoints
from omr.training.trl.batches import EpochOrder, grouping
from omr.training.trl.config import read_config
from omr.training.trl.feed import BatchFeed
from omr.training.trl.process_group import ProcessGroup
from omr.training.trl.session import Session, StopRule
from omr.training.trl.sft_file import SftFile
from omr.training.trl.validation import rows
from omr.workspace import RunFolder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ROWS_LOOKED_AT = 1000  # whose length is counted before training
Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """How far a session of training came."""

    step: int  # that was saved last
    steps: int  # of the whole run

    @property
    def complete(self) -> bool:
        """Whether the last step was reached."""
        return self.step >= self.steps


def train(folder: RunFolder, say: Say = print) -> Outcome:
    """Train the run of `folder` to its end, or until it is asked to stop; goes on from its newest checkpoint.

    Raises an OmrError of one line for what is wrong with the folder, the data or the disk.
    """
    let_threads_sleep()
    processes = ProcessGroup.from_environment()
    with _run_lock(folder, processes), contextlib.closing(processes), stopping.by_flag() as signals:
        start = _newest_checkpoint(folder, processes, say)
        config = read_config(folder)
        if start >= config.steps:
            return Outcome(start, config.steps)
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the feed has a thread of its own
        quiet()
        if _is_alone(processes):
            events.log_start(folder, start)
        outcome = _train(Session(folder, config, start, processes, StopRule(signals)), say)
        if _is_alone(processes):
            events.log_end(folder, outcome.step, outcome.steps)
        return outcome


def _run_lock(folder: RunFolder, processes: ProcessGroup) -> AbstractContextManager[None]:
    """The lock that keeps a second training out, for the first process of one that has no lease.

    A lease itself decides who may write: an orphan that still holds the lock while it ends must not hold up
    the job that took over.
    """
    if _is_alone(processes):
        return lock(folder.root / ".train.lock", str(folder.root))
    return contextlib.nullcontext()


def _is_alone(processes: ProcessGroup) -> bool:
    """Whether this is the first process of a training that is no link of a chain."""
    return processes.is_first and lease.VARIABLE not in os.environ


def _newest_checkpoint(folder: RunFolder, processes: ProcessGroup, say: Say) -> int:
    """The step to go on from, or 0. The other processes wait here until the first has mended the folder."""
    start = 0
    if processes.is_first:
        saved = Checkpoints(folder, "trl")
        for line in saved.mend():
            say(line)
            if _is_alone(processes):
                events.log_event(folder, line)
        start = max(saved.whole(), default=0)
    start = processes.broadcast(start)
    if processes.is_first:
        say(f"training goes on from step {start}" if start else "training begins")
    return start


def _train(session: Session, say: Say) -> Outcome:
    """Load the model and the data, and train the steps that are left."""
    import torch

    from omr.training.trl.trainer import Trainer

    config = session.config
    if not session.gpu:
        torch.set_num_threads(config.threads)
    model, tokenizer = load_model(Path(config.model), session.gpu)
    feed = _feed(session, _open_data(session), tokenizer)
    if session.processes.is_first:
        _report_over_length(feed, say)
    held_out = rows.read(config.validation, tokenizer, config.longest, feed.group_rows, session.processes)
    trainer = Trainer(model, feed, held_out, session)
    try:
        newest = str(session.folder.checkpoint(session.start)) if session.start else None
        trainer.train(resume_from_checkpoint=newest)
    except torch.OutOfMemoryError:
        raise OmrError(
            f"{config.title}: the GPU's memory ran out; choose RUNNER=slurm or a smaller MODEL"
        ) from None
    finally:
        trainer.close()
    return Outcome(trainer.state.global_step, config.steps)


def load_model(
    folder: Path, gpu: bool, dtype: str = "float32", device_map: str | None = None
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """A model and its tokenizer. To be trained it has fp32 weights also where a GPU computes in bf16.

    `device_map`: transformers' word for how it is spread over the GPUs; None leaves it on the CPU.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import is_flash_attn_2_available

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        device_map=device_map,
        attn_implementation="flash_attention_2" if gpu and is_flash_attn_2_available() else "sdpa",
        use_safetensors=True,
        trust_remote_code=False,
    )
    return model, tokenizer


def _open_data(session: Session) -> SftFile:
    """The SFT file, of the size and rows that the run was begun with; an OmrError says what is different."""
    data, processes = session.config.data, session.processes
    path, index = Path(data.path), session.folder.root / f"rows-{data.sha256[:12]}.npy"
    if path.stat().st_size != data.size:
        raise OmrError(
            f"{path}: has {path.stat().st_size} bytes, this run was begun with {data.size};"
            " bring the old file back, or set NAME=… for a run of its own"
        )
    if not processes.is_first:
        processes.broadcast()  # until the first one has made the index
    file = SftFile(path, index, data.limit)
    if processes.is_first:
        processes.broadcast()
    if file.rows_in_file != data.rows:
        raise OmrError(
            f"{path}: has {file.rows_in_file} rows, its manifest says {data.rows}; make data FORCE=1"
        )
    return file


def _feed(session: Session, file: SftFile, tokenizer: "PreTrainedTokenizerBase") -> BatchFeed:
    """The batches of the steps that are left."""
    config = session.config
    order = EpochOrder(len(file), config.batch, config.seed)
    group_rows = grouping(config.packed, config.sequence_length)
    steps = range(session.start, config.steps)
    return BatchFeed(file, order, tokenizer, config.longest, group_rows, steps, session.processes)


def _report_over_length(feed: BatchFeed, say: Say) -> None:
    """Say how many of the first rows are too long to be trained, where some are."""
    seen, over = feed.count_over_length(ROWS_LOOKED_AT)
    if over:
        say(
            f"{over:,} of {seen:,} rows looked at have over {feed.longest:,} tokens:"
            " they count in a batch and are not trained, as in NeMo-RL"
        )


def main(root: str) -> int:
    """Train the run folder `root` in this process; returns the exit code."""
    try:
        train(RunFolder(Path(root)))
    except OmrError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":  # one process of torchrun: python -m omr.training.trl.engine RUN_FOLDER
    code = main(sys.argv[1])
    sys.stdout.flush()
    sys.stderr.flush()
    # torch's threads can abort a process that exits in the usual way, and a finished training would fail.
    os._exit(code)
