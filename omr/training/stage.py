"""`make train` on this machine: where a run trains, whether it is finished, and the way to its final/."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from omr import manifest, recipe, settings
from omr.errors import OmrError, RequestError, choose
from omr.files import Busy
from omr.models import convert
from omr.models.final import average
from omr.request import ENGINES, TrainRequest
from omr.run import events, frozen, lease, notify, stopping, validation
from omr.run.checkpoints import Checkpoints
from omr.run.frozen import FrozenRun
from omr.runner import RUNNERS
from omr.settings import ROOT
from omr.training import preflight, validate
from omr.training.nemo_rl import one_machine
from omr.training.trl import memory
from omr.training.trl.config import engine_config, to_yaml, write_config
from omr.workspace import RunFolder, Workspace

HASHED_ANYWAY = 2e9  # bytes; a larger data file is hashed before training only with VERIFY=1
Say = Callable[[str], None]


def runner(run: recipe.Run) -> str:
    """Where this run trains; a RequestError lists the ways for a real model when none was chosen."""
    chosen = settings.get("RUNNER")
    if chosen:
        return choose("RUNNER", chosen, RUNNERS)
    if run.model.engine == "trl" and not run.model.gpus:
        return "host"
    raise RequestError(
        f"RUNNER is not set, {run.model.name} needs it: choose RUNNER=slurm (a chain of jobs), RUNNER=docker"
        " (NeMo-RL's image, this machine's GPUs), or RUNNER=host ENGINE=trl NAME=… (the one-box engine)"
    )


def parse_deadline(text: str | None) -> float | None:
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


def finished(request: TrainRequest, workspace: Workspace) -> bool:
    """Whether final/ is there and still what would be asked for; a RequestError says what is different."""
    folder = workspace.run(request.run)
    if manifest.read(folder.final) is None:
        return False
    average.finished(request.run, workspace)
    data = frozen.data_of(request.run, workspace, request.modes)
    if made := manifest.read(data):
        validation.refuse_other(data, made)
    try:
        wanted = frozen.inputs(request, workspace)
    except RequestError:
        return True  # what it was made from is gone since; it is finished all the same
    began = frozen.need(request.run, folder)
    if different := manifest.changes(began.request_json(), wanted.request_json()):
        raise RequestError(
            f"{folder.final} is finished, from another request: {'; '.join(different)};"
            " FORCE=1 trains anew, NAME=… beside it"
        )
    return True


def clear(folder: RunFolder) -> None:
    """Remove all that a training left, beginning with what says that it is finished."""
    for path in (folder.final, folder.run_json, folder.hf, folder.checkpoints, folder.logs):
        if path.is_dir():
            aside = path.with_name(f".{path.name}.gone")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            shutil.rmtree(aside)
        else:
            path.unlink(missing_ok=True)
    files = [folder.engine_yaml(engine) for engine in ENGINES]
    found = (folder.metrics, folder.validation_json, folder.eval_json, folder.report)
    for path in (*files, folder.links_json, *found):
        path.unlink(missing_ok=True)
    if folder.event_log.exists():
        events.log_event(folder, events.ANEW)


def _prepare_one_box(request: TrainRequest, workspace: Workspace) -> FrozenRun:
    """Freeze the request and write trl.yaml, which the one-box engine reads."""
    folder, wanted = workspace.run(request.run), frozen.inputs(request, workspace)
    preflight.base(wanted.base, request.run)
    began = frozen.freeze(folder, wanted)
    frozen.note_other_code(folder, began)
    write_config(folder, engine_config(began, request.gpus, request.recovery))
    return began


def train_only(request: TrainRequest, workspace: Workspace) -> None:
    """Train with the one-box engine in this process, and neither convert nor average.

    That is the part of a chain's link, or of one process of torchrun.
    """
    from omr.training.trl import engine as trl_engine

    if int(os.environ.get("RANK", "0")) == 0:
        _prepare_one_box(request, workspace)
    trl_engine.train(workspace.run(request.run))


def is_training_process() -> bool:
    """Whether a chain's supervisor or torchrun started this process, to train alone."""
    return bool(os.environ.get(lease.VARIABLE) or os.environ.get("WORLD_SIZE"))


def describe(request: TrainRequest, workspace: Workspace) -> list[str]:
    """What training here would do, as far as that is known; nothing is written."""
    run, folder, plan = request.run, workspace.run(request.run), request.run.schedule
    file, held_out = folder.engine_yaml(request.engine), []
    lines = [f"{run.title}: {request.engine} on this machine, in {folder.root}"]
    try:
        if request.engine == "nemo-rl":
            one_machine.need(run)
        wanted = frozen.inputs(request, workspace)
        text = (
            to_yaml(engine_config(wanted, request.gpus, request.recovery)) if request.engine == "trl" else ""
        )
        lines += [f"write  {file}", *text.splitlines()]
        if wanted.data.validation:
            held_out = [f"write  {folder.validation_json}  (the losses of these on held-out rows)"]
    except RequestError as error:
        lines.append(f"lacks  {error}")
    return [
        *lines,
        f"train  {plan.steps:,} steps of {run.model.batch:,} rows, a checkpoint every {plan.save_period:,}",
        f"write  steps {', '.join(f'{step:,}' for step in plan.averaged)} to {folder.hf}",
        f"write  {folder.final}  (their mean)",
        *held_out,
    ]


def train_locally(
    request: TrainRequest, workspace: Workspace, *, force: bool, verify: bool, say: Say
) -> None:
    """Train on this machine, convert, average and finish; goes on where an earlier attempt ended."""
    run, folder, steps = request.run, workspace.run(request.run), request.run.schedule.steps
    request = replace(request, gpus=_gpus(request))
    if request.engine == "nemo-rl":
        one_machine.need(run)
    wanted = frozen.inputs(request, workspace)
    if request.engine == "trl":
        memory.check(engine_config(wanted, request.gpus), max(1, request.gpus))
    if told := frozen.knows_held_out(wanted):
        say(f"note: {told}")
    if force:
        clear(folder)
    try:
        if request.engine == "nemo-rl":
            reached = one_machine.train(request, workspace, say)
        else:
            reached = _one_box(request, workspace, verify)
    except Busy:
        raise  # the other process tells
    except Exception as error:  # a full disk and what a library raises end a run as well
        why = str(error) or type(error).__name__
        notify.tell(folder, f"{run.title} stopped", f"{run.title} stopped: {why}", folder.root)
        raise
    if reached < steps:
        line = f"{run.title}: saved step {reached} of {steps}; run the same command again to go on"
        how, where = "stopped", folder.root
    else:
        line = f"{run.title}: trained {steps} steps; the final model is {folder.final}"
        how, where = "finished", folder.final
    say(line)
    notify.tell(folder, f"{run.title} {how}", line, where)
    if reached >= steps and wanted.data.validation:
        _validate(run, workspace, say)


def _validate(run: recipe.Run, workspace: Workspace, say: Say) -> None:
    """Measure the final model and its parts on held-out rows; the run is finished whatever comes of it."""
    try:
        say(f"{run.title}: {validate.summary(validate.make(validate.wanted_of(run, workspace), say))}")
    except Exception as error:  # a full disk, too, and what a library raises
        words, why = recipe.run_words(run), str(error) or type(error).__name__
        print(
            f"note: {why}; make validate {words} measures the final model on held-out rows", file=sys.stderr
        )


def unmeasured(run: recipe.Run, workspace: Workspace) -> str | None:
    """Says that a finished run's models have no loss on its held-out rows yet; None where they do."""
    began = frozen.read(workspace.run(run))
    if began is None or not began.data.validation or validate.finished(validate.wanted_of(run, workspace)):
        return None
    return f"note: its loss on held-out rows is not measured; make validate {recipe.run_words(run)} does it"


def _one_box(request: TrainRequest, workspace: Workspace, verify: bool) -> int:
    """Train, convert and average with the one-box engine; returns the step that was reached."""
    run, folder = request.run, workspace.run(request.run)
    data = _prepare_one_box(request, workspace).data
    if verify or data.size < HASHED_ANYWAY:
        preflight.data(data, None, verify=True)
    saved = Checkpoints(folder, "trl")
    if not saved.complete(run, saved.whole()):
        reached = _train(run, folder, max(1, request.gpus))
        if reached < run.schedule.steps:
            return reached
    convert.from_trl(run, workspace)
    average.make(run, workspace, verify=verify)
    return run.schedule.steps


def _gpus(request: TrainRequest) -> int:
    """How many GPUs to train on: GPUS, else every visible one for a real model; none for the tiny recipe."""
    if request.gpus is not None:
        return request.gpus
    return len(memory.gpu_memory()) if request.run.model.gpus else 0


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
    return max(Checkpoints(folder, "trl").whole(), default=0)
