"""Whether a one-box training fits into memory, answered before anything is written or loaded."""

import os
import shutil
import subprocess
from pathlib import Path

from omr.errors import RequestError
from omr.files import human
from omr.models import rope, weights
from omr.processes import available_memory
from omr.training.trl.batches import PADDED_TOKENS
from omr.training.trl.config import EngineConfig, recomputes

STATE = 16  # bytes a parameter: weight, gradient and Adam's two moments, 4 each
REDUCTION = 4  # bytes a parameter: copies of the gradients while several processes average them
LOSS = 1 << 30  # bytes that the loss works in at most, however large the vocabulary: it goes by parts


def parameters(folder: Path) -> int:
    """How many numbers a model folder's weights hold. A tied head that is stored too counts once more."""
    return sum(
        (tensor.end - tensor.start) // weights.SIZES[tensor.dtype]
        for part in weights.shards(folder)
        for tensor in part.tensors
    )


def needed(config: EngineConfig, processes: int) -> int:
    """Bytes that each of the processes needs: an upper estimate, at most about a third too high."""
    folder = Path(config.model)
    shape = rope.parse(folder / "config.json")
    count = parameters(folder)
    width, inner, layers = (shape[k] for k in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    tokens = config.sequence_length if config.gpu else max(config.sequence_length, PADDED_TOKENS)
    number = 2 if config.gpu else 4  # bytes: bf16 or fp32
    # What a layer keeps for its backward pass: about 16 vectors of the width, 4 of the inner width, a token.
    layer = tokens * (16 * width + 4 * inner) * number
    activations = layers * tokens * width * 4 + layer if recomputes(count) else layers * layer
    loss = min(LOSS, 3 * tokens * shape["vocab_size"] * 4)
    # Which token of packed rows may look at which: a matrix, where flash attention is not installed.
    mask = 4 * tokens * tokens if config.packed else 0
    return count * (STATE + (REDUCTION if processes > 1 else 0)) + activations + loss + mask


def free(config: EngineConfig) -> tuple[int, str]:
    """Free bytes of the smallest GPU or of the whole machine, and words for which of the two."""
    if config.gpu:
        gpus = gpu_memory()
        return (min(gpus), "of each GPU's memory") if gpus else (0, "of GPU memory")
    available = available_memory()
    if available is None:
        import psutil

        available = psutil.virtual_memory().available
    return available, "of memory"


def gpu_memory() -> list[int]:
    """Free bytes of each GPU that this process may use, by nvidia-smi; empty without any."""
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=uuid,index,memory.free", "--format=csv,noheader,nounits"]
    answer = subprocess.run(query, capture_output=True, text=True, errors="replace")
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.stdout.splitlines()]
    rows = [row for row in rows if len(row) == 3]
    # CUDA_VISIBLE_DEVICES names a GPU by its uuid or its index; nvidia-smi counts memory in MiB.
    memory = {key: int(row[2]) << 20 for row in rows if row[2].isdigit() for key in row[:2]}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [row[1] for row in rows] if visible is None else visible.split(",")
    return [memory[name.strip()] for name in names if name.strip() in memory]


def check(config: EngineConfig, processes: int) -> None:
    """Raise a RequestError with both numbers where the training needs more memory than is free."""
    each = needed(config, processes)
    available, what = free(config)
    wanted = each if config.gpu else each * processes
    if wanted > available:
        raise RequestError(
            f"{config.title} needs about {human(wanted)} {what} with ENGINE=trl, {human(available)} is free;"
            " choose RUNNER=slurm, a smaller MODEL, or a machine that has it"
        )
