"""One link of a training chain, on the first node of its allocation: prove, lease, train, judge.

A link counts by what it leaves: a new whole checkpoint, or a complete run; never by an exit code.
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from omr import manifest, settings
from omr.cluster import nodes, slurm, submit, supervise
from omr.cluster.attempt import Attempt
from omr.errors import OmrError
from omr.run import frozen, lease
from omr.run.chain_state import ChainState, LinkAttempt, Submitted, attempts_of_chain, why_to_stop
from omr.run.events import log_event
from omr.run.frozen import FrozenRun
from omr.training import preflight
from omr.training.nemo_rl import checks, engine_file
from omr.workspace import RunFolder


def run_link(attempt: Attempt, command: Sequence[str]) -> int:
    """The whole life of a link; returns its exit code."""
    run, folder = attempt.run, attempt.folder
    _recorded(attempt)
    whole = attempt.checkpoints.whole()
    if attempt.checkpoints.complete(run, whole):
        attempt.say("the training is complete; nothing to do")
        cancel_surplus(attempt)
        return 0
    past, newest = attempts_of_chain(folder), max(whole, default=0)
    if why := why_to_stop(past, newest, attempt.job):
        return trip(attempt, why)
    try:
        held = lease.take(folder.lease, attempt.job, attempt.restart, slurm.is_active)
    except lease.Held as error:
        attempt.say(f"refused: {error}")
        return 1
    entry = LinkAttempt(attempt.job, newest, attempt.restart, time.time())
    try:
        _prove(attempt)
        nodes.prove(folder)
        entry.start = _mend(attempt, past)
    except nodes.Fault as fault:
        entry.reached = newest
        return _elsewhere(attempt, fault, [*past, entry])
    except OmrError as error:
        return trip(attempt, f"refused: {error}")
    _write_down(folder, [*past, entry])
    attempt.say(f"trains on from step {entry.start}" if entry.start else "trains from the start")
    code, seconds = supervise.run(attempt, held, command, inherit(attempt))
    if not held.holds:
        print(f"another job has taken over {folder.root}; this one ends", flush=True)
        return 1
    return judge(attempt, entry.start, code, seconds)


def _write_down(folder: RunFolder, attempts: list[LinkAttempt]) -> ChainState:
    """These are the starts of the newest submission's links so far."""
    state = ChainState.load(folder)
    state.chain, state.attempts = Submitted.load(folder.jobs_json).chain, attempts
    state.save(folder)
    return state


def _mend(attempt: Attempt, past: Sequence[LinkAttempt]) -> int:
    """Tidy up after the start before this one; returns the step to train on from."""
    run, folder = attempt.run, attempt.folder
    if past and past[-1].reached is None:
        attempt.say(f"job {past[-1].job} ended without a word ({_fate(past[-1].job)})")
    for left in (*folder.root.glob(".ray-*"), *folder.root.glob(".stop-*")):
        left.unlink(missing_ok=True)
    for line in attempt.checkpoints.mend():
        attempt.say(line)
    whole = attempt.checkpoints.whole()
    if lost := attempt.checkpoints.lost(run, whole):
        raise OmrError(
            f"step_{lost[0]}, which is averaged, is gone, and the training is past it; bring it back, or"
            " set the checkpoints after it aside to have it trained again"
        )
    return max(whole, default=0)


def _recorded(attempt: Attempt, seconds: float = 120) -> None:
    """Wait until jobs.json has this job: an idle cluster starts it before the submission is through.

    Without it this link would not know which jobs are of its chain.
    """
    end = time.time() + seconds
    while attempt.job not in (job.id for job in Submitted.load(attempt.folder.jobs_json).jobs):
        if time.time() > end:
            attempt.say("no submission wrote this job down; it trains, and cannot cancel the others")
            return
        time.sleep(1)


def _elsewhere(attempt: Attempt, fault: nodes.Fault, attempts: list[LinkAttempt]) -> int:
    """Some nodes are not fit: this link ends, and the next ones ask Slurm for others."""
    folder = attempt.folder
    attempt.say(f"refused: {fault}")
    state = _write_down(folder, attempts)
    if why := why_to_stop(attempts, attempts[-1].reached):
        return trip(attempt, why)
    bad = list(dict.fromkeys([*state.bad_nodes, *fault.names]))
    waiting = others(attempt, lambda key: key.startswith("train-"))
    if bad and waiting and slurm.can_do_without(bad):
        state.bad_nodes = bad
        state.save(folder)
        slurm.exclude(waiting, bad)
        attempt.say(f"the next links do without {', '.join(bad)}")
    return 1


def _fate(job: str) -> str:
    """How Slurm says that a job ended, in a few words."""
    with contextlib.suppress(OmrError):
        row = slurm.jobs([job]).get(job)
        if row and job != os.environ.get("SLURM_JOB_ID"):
            return f"Slurm says {row.state.lower()}"
    return "killed, or its node was lost"


def _prove(attempt: Attempt) -> None:
    """Everything that can be known in seconds on this node; raises an OmrError of one line."""
    run, folder, state = attempt.run, attempt.folder, ChainState.load(attempt.folder)
    preflight.secrets_file()
    preflight.image(os.environ.get("CONTAINER"))
    began = frozen.freeze(folder, frozen.inputs(attempt.request, attempt.workspace))
    how = preflight.data(began.data, state.data, settings.on("VERIFY"))
    if how == preflight.WHOLE:
        state.data = manifest.fingerprint(began.data.path)
        state.save(folder)
    preflight.base(began.base, run)
    preflight.disk(folder.root, run.model)
    if began.engine == "nemo-rl":
        _prove_engine(attempt, began)
    print(f"data proved by {how}; base, image and disk are as they must be", flush=True)


def _prove_engine(attempt: Attempt, began: FrozenRun) -> None:
    """What NeMo-RL reads is what the run was submitted with: its file, and the prepared data."""
    from omr.training.nemo_rl import prepared_data

    file = submit.engine_file_of(attempt.request, attempt.workspace)
    path = file.path
    if not path.exists():
        raise OmrError(f"{path}: is gone; make train writes it again")
    if changed := checks.changes(path.read_text(), file.text, but=("logger",)):
        raise OmrError(f"{path}: is not what this run reads: {'; '.join(changed)}; make train says more")
    engine_file.check(file, began)
    if not prepared_data.finished(attempt.workspace, began.data.sha256, began.limit):
        folder = prepared_data.folder(attempt.workspace, began.data.sha256, began.limit)
        raise OmrError(
            f"{folder}: the prepared data is not there, or not whole; make train prepares it again"
        )


def inherit(attempt: Attempt) -> dict[str, str]:
    """What NeMo-RL would build at every start and finds made: the data set, and the converted base.

    The conversion cache counts only once a run has loaded from it; a half-made one is removed. Where another
    live job is at it, this run makes one of its own.
    """
    if attempt.request.engine != "nemo-rl":
        return {}
    from omr.models import convert
    from omr.training.nemo_rl import prepared_data

    began = frozen.need(attempt.run, attempt.folder)
    data = prepared_data.folder(attempt.workspace, began.data.sha256, began.limit)
    cache = convert.cache(attempt.workspace, began.base.path)
    if not convert.cached(cache):
        try:
            lease.take(cache.with_name(f"{cache.name}.lease"), attempt.job, attempt.restart, slurm.is_active)
        except lease.Held:
            cache = attempt.folder.root / "megatron"
        if not convert.cached(cache):
            shutil.rmtree(cache, ignore_errors=True)
    return {"OMR_DATA": str(data), "NRL_MEGATRON_CHECKPOINT_DIR": str(cache)}


def judge(attempt: Attempt, start: int, code: int, save_seconds: float) -> int:
    """What the link left decides: complete, a new whole checkpoint, or nothing."""
    run, folder = attempt.run, attempt.folder
    whole = attempt.checkpoints.whole()
    reached = max(whole, default=0)
    state = ChainState.load(folder)
    last = state.attempts[-1]
    last.reached, last.code, last.ended, last.why = reached, code, time.time(), attempt.stopped
    state.save_seconds = max(save_seconds, state.save_seconds or 0.0)
    state.save(folder)
    if attempt.checkpoints.complete(run, whole):
        attempt.say(f"the training is complete at step {run.schedule.steps}")
        cancel_surplus(attempt)
        return 0
    attempt.checkpoints.tidy(run, whole)
    log = folder.logs / f"engine-{attempt.job}-{attempt.restart}.log"
    ended = f"the engine ended with {code}: {supervise.last_line(log)}; see {log}"
    if reached > start:
        attempt.say(f"saved step {reached} of {run.schedule.steps}" + (f"; {ended}" if code else ""))
        return 0
    attempt.say(f"left no new checkpoint; {ended}")
    if why := why_to_stop(state.attempts, reached):
        return trip(attempt, why)
    return 1


def trip(attempt: Attempt, why: str) -> int:
    """Stop the chain: cancel what waits, and say why where the next reader looks."""
    attempt.say(f"{why}; the rest of the chain is cancelled, make train goes on once that is mended")
    slurm.cancel(others(attempt, lambda key: True))
    return 1


def cancel_surplus(attempt: Attempt) -> None:
    """The training is done: the links that still wait are not needed."""
    known = slurm.jobs(others(attempt, lambda key: key.startswith("train-")))
    waiting = [i for i, row in known.items() if row.live]
    if waiting:
        attempt.say(f"cancels the surplus link{'s' if len(waiting) > 1 else ''} {', '.join(waiting)}")
        slurm.cancel(waiting)


def others(attempt: Attempt, wanted: Callable[[str], bool]) -> list[str]:
    """Ids of this chain's other jobs whose key is wanted."""
    listed = Submitted.load(attempt.folder.jobs_json).jobs
    return [job.id for job in listed if wanted(job.key) and job.id != attempt.job]


def after_training(attempt: Attempt) -> int:
    """0 if the training is complete; else 1, and the story says how far it is."""
    run, folder = attempt.run, attempt.folder
    whole = attempt.checkpoints.whole()
    if attempt.checkpoints.complete(run, whole):
        return 0
    first = os.environ.get("SLURM_ARRAY_TASK_ID", "0") == "0"
    line = f"the training stands at step {max(whole, default=0)} of {run.schedule.steps}; make train goes on"
    print(line)
    if first:
        log_event(folder, f"convert, job {attempt.job}: {line}")
    return 1


def run_stage(stage: str, command: Sequence[str]) -> int:
    """Run a stage's step to its end; it fails with the step's own code, and says so in the run's story."""
    code = subprocess.run(command).returncode
    if code and (root := os.environ.get("RUN_DIR")):
        job = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID")
        log_event(
            RunFolder(Path(root)), f"{stage}, job {job}: failed with exit code {code}; its log says why"
        )
    return code
