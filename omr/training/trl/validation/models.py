"""Models measured one after the other, by this process or by one in NeMo-RL's environment.

As a program, `python -m omr.training.trl.validation.models`, it reads an Order from its standard input and
writes a line of JSON for each model as soon as it is measured, or one that says why it could not.
"""

import contextlib
import gc
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from omr import records
from omr.errors import OmrError
from omr.processes import let_threads_sleep, quiet
from omr.progress import Progress
from omr.run.nemo_rl_version import nemo_rl_folder
from omr.run.validation import ValidationFile
from omr.settings import ROOT
from omr.training.trl.batches import grouping
from omr.training.trl.memory import gpu_memory
from omr.training.trl.process_group import ProcessGroup

ALONE = ProcessGroup(0, 1)
Losses = dict[str, float]


@dataclass(frozen=True)
class Order:
    """What is to be measured, and how."""

    title: str  # of the run, for the progress line
    models: dict[str, Path]  # name -> folder
    files: tuple[ValidationFile, ...]
    longest: int  # tokens of a row that is measured
    sequence_length: int  # tokens of a micro-batch
    gpu: bool


def has_torch() -> bool:
    """Whether this environment can measure by itself; that of NeMo-RL's image leaves torch to NeMo-RL."""
    return importlib.util.find_spec("torch") is not None


def sees_gpu() -> bool:
    """Whether a model can be measured on a GPU here."""
    if not has_torch():
        return bool(gpu_memory())
    let_threads_sleep()
    import torch

    return torch.cuda.is_available()


def measured(order: Order) -> Iterator[tuple[str, Losses]]:
    """Each model and its losses, as they are found; an OmrError for rows that changed, and without memory."""
    return _measured_here(order) if has_torch() else _measured_by_nemo_rl(order)


def _measured_here(order: Order) -> Iterator[tuple[str, Losses]]:
    let_threads_sleep()
    quiet()
    import torch
    from transformers.utils import is_flash_attn_2_available

    from omr.training.trl.engine import load_model
    from omr.training.trl.validation import loss, rows

    # Without flash attention packed rows would have to be masked out of each other, which takes its square.
    packed = order.gpu and is_flash_attn_2_available()
    device, held_out = torch.device("cuda" if order.gpu else "cpu"), None
    how = {"dtype": "bfloat16", "device_map": "auto"} if order.gpu else {}
    for name, path in order.models.items():
        gc.collect()  # the model before this one, or what a training in this process has left
        if order.gpu:
            torch.cuda.empty_cache()
        model, tokenizer = load_model(path, order.gpu, **how)
        if held_out is None:  # the vocabulary of all of them is one
            group_rows = grouping(packed, order.sequence_length)
            held_out = rows.read(order.files, tokenizer, order.longest, group_rows, ALONE)
        progress = Progress(f"{order.title}, {name}", sum(split.tokens for split in held_out), "tokens")
        try:
            found = loss.measure(model, held_out, packed, device, ALONE, progress.add)
        except torch.OutOfMemoryError:
            raise OmrError(f"{path}: the GPU's memory ran out; run it where GPUs have more") from None
        finally:
            progress.close()
        del model
        yield name, found


def _measured_by_nemo_rl(order: Order) -> Iterator[tuple[str, Losses]]:
    """The same by a process in NeMo-RL's environment, which has torch and transformers."""
    home = Path(nemo_rl_folder())
    if not home.is_dir():
        raise OmrError(
            f"this environment has no torch, and there is no NeMo-RL in {home}; run it with RUNNER=host"
        )
    command = ["uv", "run", "--no-sync", "python", "-m", __name__]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=home, env=environ, stdin=pipe, stdout=pipe, text=True)
    try:
        with contextlib.suppress(BrokenPipeError), process.stdin as order_file:  # its end says why
            json.dump(asdict(order), order_file, default=str)
        for line in process.stdout:
            answer = _answer(line)
            if answer is None:
                print(line, end="", file=sys.stderr)
            elif "error" in answer:
                raise OmrError(answer["error"])
            else:
                yield answer["model"], answer["losses"]
        if code := process.wait():
            raise OmrError(f"{order.title}: NeMo-RL's Python could not measure (exit code {code}, see above)")
    finally:
        process.terminate()  # where nobody waits for the rest
        process.wait()


def _answer(line: str) -> dict | None:
    """A line of ours; None for what a library prints."""
    try:
        answer = json.loads(line)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) and {"model", "error"} & {*answer} else None


def main() -> int:
    """Measure what is ordered on the standard input; returns the exit code."""
    try:
        for name, losses in _measured_here(records.of(Order, json.load(sys.stdin))):
            print(json.dumps({"model": name, "losses": losses}), flush=True)
    except OmrError as error:
        print(json.dumps({"error": str(error)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
