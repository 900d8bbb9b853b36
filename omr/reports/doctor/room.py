"""Whether workspace, memory and GPUs hold what is planned."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from omr import recipe
from omr.containers.checks import OK, Check, fix, of_error, ok, warn
from omr.errors import OmrError, RequestError
from omr.files import human, writable
from omr.processes import available_memory
from omr.recipe import memory as estimates
from omr.reports.doctor.request import StageRequest
from omr.reports.doctor.sizes import Sizes
from omr.run import frozen
from omr.training.trl.memory import gpu_memory

TIGHT = 1.2  # times what is planned: less is worth a word


def there(root: Path) -> Path:
    """The workspace, or what there is of the way to it."""
    return next(folder for folder in (root, *root.parents) if folder.exists())


def writing(root: Path) -> Check:
    """Whether it can be written, and the free space of its disk."""
    try:
        writable(root)
    except OmrError as error:
        return of_error("workspace", error)
    free = shutil.disk_usage(there(root)).free
    # The tiny recipe takes well under a gigabyte; the real corpus 50 GB of parquet, 114 GB of text
    # and as much scratch while it is mixed.
    advice = "" if free > 300e9 else "the real corpus needs about 300 GB: set WORKSPACE on a larger disk"
    return Check("workspace", OK, f"{root}, {human(free)} free", advice)


def room(root: Path, planned: Sizes) -> list[Check]:
    """The workspace for a request: writable, with room for its bytes and its files."""
    try:
        writable(root)
    except OmrError as error:
        return [of_error("workspace", error)]
    folder = there(root)
    system = os.statvfs(folder)
    found = [
        ok("workspace", str(root)),
        space(shutil.disk_usage(folder).free, planned, folder),
    ]
    # A file system that makes inodes as it needs them (btrfs, many network ones) counts none.
    return [*found, inodes(system.f_favail, planned, folder)] if system.f_files else found


def space(free: int, planned: Sizes, folder: Path) -> Check:
    """`free` bytes of a disk, beside what is planned."""
    said = f"{human(free)} free, {human(planned.bytes)} planned ({planned.words()})"
    if free < planned.bytes:
        return fix("disk", said, f"make room in {folder}, or set WORKSPACE on a larger disk")
    if free < TIGHT * planned.bytes:
        return warn("disk", said, "little is left beside it: set WORKSPACE on a larger disk")
    return ok("disk", said)


def inodes(free: int, planned: Sizes, folder: Path) -> Check:
    """`free` inodes of a disk, beside the files that are planned."""
    said = f"{free:,} free, about {planned.files:,} files planned"
    if free < planned.files:
        return fix("inodes", said, f"remove small files in {folder}, or set WORKSPACE on another disk")
    if free < TIGHT * planned.files:
        return warn("inodes", said, "few are left beside them: set WORKSPACE on another disk")
    return ok("inodes", said)


def memory(request: StageRequest, runner: str) -> list[Check]:
    """The memory of the machine, or of each GPU, beside what the stage would hold."""
    if request.target in ("data", "pipeline") and runner != "slurm" and request.data:
        return [of_workers(request.data[0].means.memory, available_memory())]
    train = request.train
    if not request.trains_a_model or train is None:
        return []
    if train.engine == "trl":
        return _one_box(request) if runner != "slurm" else []
    sized = replace(train.run.model, nodes=train.job_nodes, gpus=train.job_gpus)
    if runner != "slurm":
        cards = gpu_memory()
        sized = replace(sized, nodes=1, gpus=len(cards))
        if not cards:
            return [fix("GPU memory", "no GPU is visible", "set RUNNER=slurm")]
        most = min(cards)
    else:
        most = int(estimates.GPU)
    need = estimates.estimate(sized, recipe.of_model(sized).architectures[sized.name])
    return [of_gpu(need.total, most, sized, runner)]


def of_workers(wanted: int, available: int | None) -> Check:
    """What the data stage may use, beside what is free."""
    if available is None:
        return warn("memory", "this system does not say what is free", "set MEMORY to less than it has")
    said = f"{human(wanted)} wanted by its workers, {human(available)} available"
    if wanted > available:
        return fix("memory", said, f"set MEMORY={max(1, int(available * 0.8) // 10**9)}G")
    return ok("memory", said)


def of_gpu(need: float, most: float, model: recipe.Model, runner: str) -> Check:
    """What each GPU would hold, by the recipe's estimate, beside the card's memory."""
    said = f"about {human(need)} on each of {model.nodes} × {model.gpus} GPUs, a card has {human(most)}"
    if need > most:
        advice = (
            f"set NODES={2 * model.nodes}" if runner == "slurm" else "set RUNNER=slurm, or a smaller MODEL"
        )
        return fix("GPU memory", said, advice)
    if need > most / TIGHT:
        return warn("GPU memory", said, "run the smoke run first: make plan prints it")
    return ok("GPU memory", said)


def _one_box(request: StageRequest) -> list[Check]:
    """The one-box engine's own check, where its base and data are there to be measured."""
    from omr.training.trl import config
    from omr.training.trl import memory as one_box

    train = request.train
    gpus = train.gpus if train.gpus is not None else len(gpu_memory()) if train.run.model.gpus else 0
    try:
        wanted = frozen.inputs(train, request.workspace)
    except RequestError:
        return []  # the row of the inputs says so
    built = config.engine_config(wanted, gpus)
    one_box.check(built, max(1, gpus))
    free, what = one_box.free(built)
    return [ok("memory", f"{human(one_box.needed(built, max(1, gpus)))} needed, {human(free)} {what} free")]
