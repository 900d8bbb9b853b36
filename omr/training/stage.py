"""`make train`: a run becomes final/, here with the one-box engine or as a chain of Slurm jobs."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from omr import manifest, recipe, settings
from omr.cluster import slurm
from omr.errors import OmrError, RequestError, choose
from omr.files import read_json
from omr.models import average, convert
from omr.run import checkpoints, lease, stopping
from omr.run import request as runs
from omr.settings import ROOT
from omr.training import preflight
from omr.training.nemo_rl import local
from omr.training.trl import memory
from omr.training.trl import plan as trl_plan
from omr.workspace import RunFolder, Workspace

ENGINES = ("trl", "nemo-rl")
RUNNERS = ("host", "docker", "slurm")
HASHED = 2e9  # bytes of data that are hashed before training anyway; more of it with VERIFY=1
Say = Callable[[str], None]


@dataclass(frozen=True)
class Words:
    """What a training is asked with, beside the run itself."""

    engine: str
    modes: tuple[str, ...] = recipe.SPLITS
    limit: int | None = None
    overrides: str | None = None
    gpus: int | None = None

    @property
    def request(self) -> dict:
        """Those that decide the result, as runs.request takes them."""
        names = ("engine", "modes", "limit", "overrides")
        return {name: getattr(self, name) for name in names}


def words(
    run: recipe.Run,
    engine: str | None,
    modes: str | None,
    limit: int | None,
    overrides: str | None,
    gpus: int | None,
) -> Words:
    """The words checked; what changes the result and has no place in a path needs a NAME."""
    said = Words(
        choose("ENGINE", engine or run.model.engine, ENGINES), recipe.modes(modes), limit, overrides, gpus
    )
    changing = {
        "LIMIT": limit,
        "MODES": modes if said.modes != recipe.SPLITS else None,
        "ENGINE": engine if said.engine != run.model.engine else None,
        "OVERRIDES": overrides,
    }
    for word, value in changing.items():
        if value and not run.name:
            raise RequestError(
                f"{word}={value} makes another run than the recipe's; add NAME=… to set it apart"
            )
    if overrides and said.engine == "trl":
        raise RequestError(
            "OVERRIDES are keys of NeMo-RL, and ENGINE=trl reads none; leave them out, or train with nemo-rl"
        )
    return said


def runner(run: recipe.Run, said: Words) -> str:
    """Where this run trains; a RequestError lists the ways for a real model when none was chosen."""
    chosen = settings.get("RUNNER")
    if chosen:
        return choose("RUNNER", chosen, RUNNERS)
    if run.model.corpus == "tiny":
        return "host"
    raise RequestError(
        f"RUNNER is not set, {run.model.name} needs it: choose RUNNER=slurm (a chain of jobs), RUNNER=docker"
        " (NeMo-RL's image, this machine's GPUs), or RUNNER=host ENGINE=trl NAME=… (the one-box engine)"
    )


def moment(text: str | None) -> float | None:
    """DEADLINE as seconds since the epoch: seconds from now, or a time such as 2026-01-31T18:00."""
    if text is None:
        return None
    try:
        return time.time() + float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise RequestError(
            f"DEADLINE={text} is no time; give seconds from now, or a time like 2026-01-31T18:00"
        ) from None


def finished(run: recipe.Run, workspace: Workspace, said: Words) -> bool:
    """Whether final/ is there and still what would be asked for; a RequestError says what is different."""
    folder = workspace.run(run)
    if manifest.read(folder.final) is None:
        return False
    average.finished(run, workspace)
    try:
        wanted = runs.request(run, workspace, **said.request)
    except RequestError:
        return True  # what it was made from is gone since; it is finished all the same
    frozen = read_json(folder.run_json)["request"]
    if different := manifest.changes(frozen, runs.plain(wanted)):
        raise RequestError(
            f"{folder.final} is finished, from another request: {'; '.join(different)};"
            " FORCE=1 trains anew, NAME=… beside it"
        )
    return True


def clear(folder: RunFolder) -> None:
    """Take back all that a training left: first what says that it is finished."""
    for path in (folder.final, folder.run_json, folder.hf, folder.checkpoints, folder.logs):
        if path.is_dir():
            aside = path.with_name(f".{path.name}.gone")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            shutil.rmtree(aside)
        else:
            path.unlink(missing_ok=True)
    files = [folder.engine_yaml(engine) for engine in ENGINES]
    for path in (*files, folder.links_json, folder.metrics, folder.eval_json, folder.report):
        path.unlink(missing_ok=True)


def anew(run: recipe.Run, workspace: Workspace) -> None:
    """FORCE=1 for a chain of jobs: what the run has is taken back, but not from under a chain that lives."""
    slurm.need()
    folder = workspace.run(run)
    slurm.refuse_second(folder.root, run.title)
    clear(folder)


def begin(run: recipe.Run, workspace: Workspace, said: Words) -> trl_plan.Plan:
    """Freeze the request and write what the engine reads."""
    folder = workspace.run(run)
    wanted = runs.request(run, workspace, **said.request)
    preflight.base(wanted["base"], run.model, "patched" if run.round.number == 1 else "final")
    request = runs.freeze(folder, wanted)["request"]
    planned = trl_plan.plan(run, request, said.gpus)
    trl_plan.write(folder, planned)
    return planned


def link(run: recipe.Run, workspace: Workspace, said: Words) -> bool:
    """The training alone, in this process of a chain's link or of torchrun; True when it is complete."""
    from omr.training.trl import engine as trl_engine

    if int(os.environ.get("RANK", "0")) == 0:
        begin(run, workspace, said)
    return trl_engine.train(workspace.run(run)).complete


def is_link() -> bool:
    """Whether this process only trains: a chain's supervisor or torchrun started it."""
    return bool(os.environ.get(lease.VARIABLE) or os.environ.get("WORLD_SIZE"))


def describe(run: recipe.Run, workspace: Workspace, said: Words) -> list[str]:
    """What training here would do, as far as that is known; nothing is written."""
    folder, plan = workspace.run(run), run.schedule
    file = folder.engine_yaml(said.engine)
    lines = [f"{run.title}: {said.engine} on this machine, in {folder.root}"]
    try:
        if said.engine == "nemo-rl":
            local.need(run)
        request = runs.request(run, workspace, **said.request)
        text = trl_plan.text(trl_plan.plan(run, request, said.gpus)) if said.engine == "trl" else ""
        lines += [f"write  {file}", *text.splitlines()]
    except RequestError as error:
        lines.append(f"lacks  {error}")
    return [
        *lines,
        f"train  {plan.steps:,} steps of {run.model.batch:,} rows, a checkpoint every {plan.save_period:,}",
        f"write  steps {', '.join(f'{step:,}' for step in plan.averaged)} to {folder.hf}",
        f"write  {folder.final}  (their mean)",
    ]


def here(run: recipe.Run, workspace: Workspace, said: Words, *, force: bool, verify: bool, say: Say) -> None:
    """Train on this machine, convert, average and finish; goes on where an earlier attempt ended."""
    folder, steps = workspace.run(run), run.schedule.steps
    said = replace(said, gpus=_gpus(run, said))
    if said.engine == "nemo-rl":
        local.need(run)
    wanted = runs.request(run, workspace, **said.request)
    if said.engine == "trl":
        memory.check(trl_plan.plan(run, wanted, said.gpus), max(1, said.gpus))
    if folder.jobs_json.exists() and slurm.available():
        slurm.refuse_second(folder.root, run.title)
    if force:
        clear(folder)
    if said.engine == "nemo-rl":
        reached = local.here(run, workspace, said.request, said.gpus, say)
    else:
        reached = _one_box(run, workspace, said, verify)
    if reached < steps:
        say(f"{run.title}: saved step {reached} of {steps}; run the same command again to go on")
    else:
        say(f"{run.title}: trained {steps} steps; the final model is {folder.final}")


def _one_box(run: recipe.Run, workspace: Workspace, said: Words, verify: bool) -> int:
    """Train, convert and average with the one-box engine; returns the step that was reached."""
    folder = workspace.run(run)
    planned = begin(run, workspace, said)
    if verify or planned.data["size"] < HASHED:
        preflight.data(planned.data, None, verify=True)
    if not checkpoints.complete(folder.checkpoints):
        reached = _train(run, folder, max(1, said.gpus))
        if reached < run.schedule.steps:
            return reached
    convert.from_trl(run, workspace)
    average.make(run, workspace, verify=verify)
    return run.schedule.steps


def _gpus(run: recipe.Run, said: Words) -> int:
    """GPUS, else every visible one for a real model; the tiny recipe trains on the CPU."""
    if said.gpus is not None:
        return said.gpus
    return len(memory.gpu_memory()) if run.model.gpus else 0


def _train(run: recipe.Run, folder: RunFolder, processes: int) -> int:
    """Train here, in one process or several; returns the step that was reached."""
    if processes == 1:
        # One process would otherwise spread a batch over all GPUs that it sees.
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
        from omr.training.trl import engine as trl_engine

        return trl_engine.train(folder).step
    command = [
        sys.executable,
        "-m",
        "omr.training.trl.torchrun",
        str(processes),
        "-m",
        "omr.training.trl.engine",
        str(folder.root),
    ]
    with stopping.by_file(folder) as environ:
        done = subprocess.run(command, env=environ, cwd=ROOT)
    if done.returncode:
        raise OmrError(
            f"{run.title}: training in {processes} processes failed (see above); run again to go on"
        )
    return max(checkpoints.whole(folder.checkpoints), default=0)
