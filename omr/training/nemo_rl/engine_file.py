"""nemo_rl.yaml of a request: its path and text, and whether it can train what was frozen."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from omr import settings
from omr.errors import RequestError
from omr.request import TrainRequest
from omr.run import frozen, validation
from omr.run.frozen import FrozenRun
from omr.run.nemo_rl_version import nemo_rl_folder
from omr.training.nemo_rl import checks, config
from omr.workspace import Workspace


@dataclass(frozen=True)
class EngineFile:
    """What NeMo-RL reads, before it is written."""

    path: Path
    text: str


def of(
    request: TrainRequest,
    workspace: Workspace,
    *,
    base: Path | None = None,
    data: Path | None = None,
    secrets: Collection[str] = (),
) -> EngineFile:
    """The file of a request; a RequestError where its OVERRIDES or its size cannot work.

    `base` and `data` where they are still to be made, else what the run starts from now; `secrets` are the
    names of those that the engine will have: W&B is on where its key is among them.
    """
    run = request.run
    folder = workspace.run(run)
    data = data or frozen.data_of(run, workspace, request.modes)
    inputs = config.Inputs(
        run,
        folder,
        base or frozen.base_of(run, workspace),
        data,
        nodes=request.job_nodes,
        gpus=request.job_gpus,
        overrides=request.overrides,
        wandb="WANDB_API_KEY" in secrets,
        wandb_project=settings.get("WANDB_PROJECT"),
        wandb_entity=settings.get("WANDB_ENTITY"),
        engine_root=nemo_rl_folder(),
        held_out=validation.files_of(data),
    )
    return EngineFile(
        folder.engine_yaml("nemo-rl"), config.text(config.values(inputs), run, request.overrides)
    )


def check(file: EngineFile, began: FrozenRun) -> None:
    """A RequestError where the file cannot train what was frozen, or is not what the run began with."""
    import yaml

    rows = min(began.data.rows, began.limit or began.data.rows)
    checks.rows(began.run, rows, yaml.safe_load(file.text))
    if file.path.exists() and (changed := checks.changes(file.path.read_text(), file.text)):
        raise RequestError(
            f"{file.path}: the run began with other values: {'; '.join(changed)}; remove the file to go on"
            " with the new ones, or set NAME=… for a run of its own"
        )
