"""NeMo-RL on this machine's GPUs alone, one node: in its image (RUNNER=docker), or where NEMO_RL is."""

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from omr import settings
from omr.errors import OmrError, RequestError
from omr.files import lock, write_text
from omr.models import convert
from omr.models.final import average
from omr.recipe import Run
from omr.request import TrainRequest
from omr.run import events, frozen, stopping
from omr.run.checkpoints import Checkpoints
from omr.run.frozen import FrozenRun
from omr.run.nemo_rl_version import PINNED_VERSION, nemo_rl_folder
from omr.training.nemo_rl import engine_file, prepared_data
from omr.workspace import RunFolder, Workspace

DRIVER = Path(__file__).with_name("driver.py")


def need(run: Run) -> Path:
    """NeMo-RL's folder; a RequestError says how else this run can train."""
    home = Path(nemo_rl_folder())
    if not (home / PINNED_VERSION.script).exists():
        raise RequestError(
            f"{run.model.name} trains with NeMo-RL, which is not on this machine ({home}); choose"
            " RUNNER=slurm or RUNNER=docker, or ENGINE=trl NAME=… for one box"
        )
    return home


def train(request: TrainRequest, workspace: Workspace, say: Callable[[str], None]) -> int:
    """Train until the end or until asked to stop, convert and average; returns the step that was reached."""
    run, folder = request.run, workspace.run(request.run)
    home = need(run)
    if not request.gpus:
        raise RequestError(f"{run.title}: NeMo-RL needs GPUs, and none is visible here; choose RUNNER=slurm")
    began = frozen.freeze(folder, frozen.inputs(request, workspace))
    frozen.note_other_code(folder, began)
    saved = Checkpoints(folder, "nemo-rl")
    if not saved.complete(run, saved.whole()):
        with lock(folder.root / ".train.lock", str(folder.root)):
            _train(request, workspace, began, home, say)
    whole = saved.whole()
    if not saved.complete(run, whole):
        return max(whole, default=0)
    for step in run.schedule.averaged:
        convert.from_nemo_rl(run, workspace, step)
    average.make(run, workspace)
    return run.schedule.steps


def _train(
    request: TrainRequest,
    workspace: Workspace,
    began: FrozenRun,
    home: Path,
    say: Callable[[str], None],
) -> None:
    """One session of the engine; an OmrError if it left no new checkpoint."""
    run, folder = request.run, workspace.run(request.run)
    prepared_data.make(workspace, began.data.path, request.limit)
    file = engine_file.of(replace(request, nodes=1), workspace, secrets=settings.secrets())
    engine_file.check(file, began)
    write_text(file.path, file.text)
    saved = Checkpoints(folder, "nemo-rl")
    for line in saved.mend():
        say(line)
    start = max(saved.whole(), default=0)
    say(f"training goes on from step {start}" if start else "training begins")
    events.log_start(folder, start)
    cache = convert.cache(workspace, began.base.path)
    with lock(cache.with_name(f"{cache.name}.lock"), str(cache)):
        if not convert.cached(cache):
            shutil.rmtree(cache, ignore_errors=True)
        with _ray_token(folder) as token, stopping.by_file(folder) as environ:
            environ |= {
                "OMR_METRICS": str(folder.metrics),
                **prepared_data.environment(workspace, began.data, request.limit),
                "RECOVERY": str(request.recovery or ""),
                "NRL_MEGATRON_CHECKPOINT_DIR": str(cache),
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN_PATH": str(token),
                "RAY_USAGE_STATS_ENABLED": "0",
            }
            command = ["uv", "run", "--no-sync", "python", str(DRIVER), "--config", str(file.path)]
            code = subprocess.run(command, cwd=home, env=environ).returncode
    reached = max(saved.whole(), default=0)
    if reached > start:
        events.log_end(folder, reached, run.schedule.steps)
    else:
        raise OmrError(
            f"{run.title}: NeMo-RL left no new checkpoint (exit code {code}, see above); run again to go on"
        )


@contextlib.contextmanager
def _ray_token(folder: RunFolder) -> Iterator[Path]:
    """A file with a token of this session's own, gone after it.

    Ray runs code for whoever reaches its ports, and a container shares the host's.
    """
    path = folder.root / f".ray-{os.getpid()}"
    path.touch(mode=0o600)
    try:
        path.write_text(secrets.token_hex(32))
        yield path
    finally:
        path.unlink(missing_ok=True)
