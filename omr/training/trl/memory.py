"""Does a one-box training fit into memory? Answered before anything is written or loaded."""

import os
import shutil
import subprocess
from pathlib import Path

from omr.errors import RequestError
from omr.files import human
from omr.models import rope, weights
from omr.training.trl.plan import CPU_TOKENS, Plan, recomputes

STATE = 16  # bytes a parameter: fp32 weights, gradients, and Adam's two moments
BUCKETS = 4  # more of them where several processes average their gradients
CHUNK = 1 << 30  # bytes that the loss works in, however large the vocabulary


def parameters(folder: Path) -> int:
    """Numbers in a model folder's weights; a tied head that is stored too counts once more."""
    return sum(
        (tensor.end - tensor.start) // weights.SIZES[tensor.dtype]
        for part in weights.shards(folder)
        for tensor in part.tensors
    )


def needed(plan: Plan, processes: int) -> int:
    """Bytes that each process needs: an estimate from above, within about a third."""
    folder = Path(plan.model)
    config = rope.parse(folder / "config.json")
    count = parameters(folder)
    width, inner, layers = (config[k] for k in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    tokens = plan.sequence_length if plan.gpu else max(plan.sequence_length, CPU_TOKENS)
    number = 2 if plan.gpu else 4  # bytes
    # What a layer keeps for its backward pass: some 16 vectors of the width, 4 of the inner width.
    layer = tokens * (16 * width + 4 * inner) * number
    kept = layers * tokens * width * 4 + layer if recomputes(count) else layers * layer
    head = min(CHUNK, 3 * tokens * config["vocab_size"] * 4)
    mask = 4 * tokens * tokens if plan.packed else 0  # which token may look at which, without flash attention
    return count * (STATE + (BUCKETS if processes > 1 else 0)) + kept + head + mask


def free(plan: Plan) -> tuple[int, str]:
    """Bytes that are free to this run, of the smallest GPU or of the whole machine, and what that is."""
    if plan.gpu:
        gpus = gpu_memory()
        return (min(gpus), "of each GPU's memory") if gpus else (0, "of GPU memory")
    import psutil

    found = psutil.virtual_memory().available
    limit, used = (Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory.current"))
    if limit.exists() and used.exists() and (most := limit.read_text().strip()).isdigit():
        found = min(found, int(most) - int(used.read_text()))
    return found, "of memory"


def gpu_memory() -> list[int]:
    """Free bytes of each GPU that this process may use; empty without any."""
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=uuid,index,memory.free", "--format=csv,noheader,nounits"]
    asked = subprocess.run(query, capture_output=True, text=True)
    rows = [[cell.strip() for cell in line.split(",")] for line in asked.stdout.splitlines()]
    found = {key: int(row[2]) << 20 for row in rows if len(row) == 3 and row[2].isdigit() for key in row[:2]}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    named = [row[1] for row in rows if len(row) == 3] if visible is None else visible.split(",")
    return [found[name.strip()] for name in named if name.strip() in found]


def check(plan: Plan, processes: int) -> None:
    """A RequestError if the training cannot fit; says how much it needs and what is there."""
    each = needed(plan, processes)
    there, what = free(plan)
    wanted = each if plan.gpu else each * processes
    if wanted > there:
        raise RequestError(
            f"{plan.title} needs about {human(wanted)} {what} with ENGINE=trl, {human(there)} is free;"
            " choose RUNNER=slurm, a smaller MODEL, or a machine that has it"
        )
