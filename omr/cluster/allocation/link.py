"""One link of a training chain, on the first node of its allocation: check, take the lease, train, judge.

A link counts by what it leaves, a new whole checkpoint or a complete run, and never by an exit code.
"""

import contextlib
import os
import time
from collections.abc import Callable, Sequence

from omr.cluster import slurm
from omr.cluster.allocation import checks, node_check, supervise
from omr.cluster.allocation.attempt import Attempt
from omr.cluster.allocation.supervise import EngineResult
from omr.errors import OmrError
from omr.run import lease
from omr.run.chain_state import ChainState, LinkAttempt, Submitted, attempts_of_chain, why_to_stop


def run_link(attempt: Attempt, command: Sequence[str]) -> int:
    """The whole life of a link, whose engine is `command`; returns its exit code."""
    whole = attempt.checkpoints.whole()
    if attempt.checkpoints.complete(attempt.run, whole):
        attempt.log("the training is complete; nothing to do")
        _remove_marks(attempt)
        cancel_surplus_links(attempt)
        return 0
    past, newest = attempts_of_chain(attempt.folder), max(whole, default=0)
    if why := why_to_stop(past, newest, attempt.job):
        return stop_chain(attempt, why)
    try:
        held = lease.take(attempt.folder.lease, attempt.job, attempt.restart, slurm.is_active)
    except lease.Held as error:
        attempt.log(f"refused: {error}")
        attempt.tell("refused", str(error), of_chain=False)
        return 1
    entry = LinkAttempt(attempt.job, newest, attempt.restart, time.time())
    try:
        checks.check_inputs(attempt)
        node_check.check_nodes(attempt.folder)
        entry.start = _clean_up(attempt, past)
    except node_check.UnfitNodes as fault:
        entry.reached = newest
        return exclude_bad_nodes(attempt, fault, [*past, entry])
    except OmrError as error:
        return stop_chain(attempt, f"refused: {error}")
    _record_attempts(attempt, [*past, entry])
    attempt.log(f"trains on from step {entry.start}" if entry.start else "trains from the start")
    result = supervise.run(attempt, held, command, checks.reused_inputs(attempt))
    if not held.holds:
        print(f"another job has taken over {attempt.folder.root}; this one ends", flush=True)
        return 1
    return judge(attempt, entry.start, result)


def _record_attempts(attempt: Attempt, attempts: list[LinkAttempt]) -> ChainState:
    """Write down the starts of the newest submission's links so far."""
    state = ChainState.load(attempt.folder)
    state.chain, state.attempts = Submitted.load(attempt.folder.jobs_json).chain, attempts
    state.save(attempt.folder)
    return state


def _clean_up(attempt: Attempt, past: Sequence[LinkAttempt]) -> int:
    """Tidy up after the start before this one; returns the step to train on from."""
    if past and past[-1].reached is None:
        attempt.log(f"job {past[-1].job} ended without recording a result ({_how_it_ended(past[-1].job)})")
    _remove_marks(attempt)
    for line in attempt.checkpoints.mend():
        attempt.log(line)
    whole = attempt.checkpoints.whole()
    if lost := attempt.checkpoints.lost(attempt.run, whole):
        raise OmrError(
            f"step_{lost[0]}, which is averaged, is gone, and the training is past it; bring it back, or"
            " set the checkpoints after it aside to have it trained again"
        )
    return max(whole, default=0)


def _remove_marks(attempt: Attempt) -> None:
    """What a start that was killed told its engine and Ray's nodes."""
    root = attempt.folder.root
    for left in (*root.glob(".ray-*"), *root.glob(".stop-*")):
        left.unlink(missing_ok=True)


def _how_it_ended(job: str) -> str:
    """How a job that wrote nothing down ended, in a few words."""
    with contextlib.suppress(OmrError):
        row = slurm.jobs([job]).get(job)
        if row and job != os.environ.get("SLURM_JOB_ID"):
            return f"Slurm says {row.state.lower()}"
    return "killed, or its node was lost"


def exclude_bad_nodes(attempt: Attempt, fault: node_check.UnfitNodes, attempts: list[LinkAttempt]) -> int:
    """Some nodes are not fit: have the next links ask Slurm for others; returns the exit code of this one."""
    attempt.log(f"refused: {fault}")
    state = _record_attempts(attempt, attempts)
    if why := why_to_stop(attempts, attempts[-1].reached):
        return stop_chain(attempt, why)
    bad = list(dict.fromkeys([*state.bad_nodes, *fault.names]))
    waiting = other_jobs(attempt, is_link)
    if bad and waiting and slurm.can_do_without(bad):
        state.bad_nodes = bad
        state.save(attempt.folder)
        slurm.exclude(waiting, bad)
        attempt.log(f"the next links do without {', '.join(bad)}")
    return 1


def judge(attempt: Attempt, start: int, result: EngineResult) -> int:
    """Write down what the link left, and decide: complete, a new whole checkpoint, or nothing.

    `start` is the step that it trained on from; returns the link's exit code.
    """
    whole = attempt.checkpoints.whole()
    reached, steps = max(whole, default=0), attempt.run.schedule.steps
    state = ChainState.load(attempt.folder)
    last = state.attempts[-1]
    last.reached, last.code, last.ended, last.why = reached, result.code, time.time(), attempt.stopped
    state.save_seconds = max(result.save_seconds, state.save_seconds or 0.0)
    state.save(attempt.folder)
    if attempt.checkpoints.complete(attempt.run, whole):
        attempt.log(f"the training is complete at step {steps}")
        cancel_surplus_links(attempt)
        return 0
    attempt.checkpoints.tidy(attempt.run, whole)
    log = supervise.engine_log(attempt)
    ended = f"the engine ended with {result.code}: {supervise.last_line(log)}; see {log}"
    if reached > start:
        attempt.log(f"saved step {reached} of {steps}" + (f"; {ended}" if result.code else ""))
        return 0
    attempt.log(f"left no new checkpoint; {ended}")
    if why := why_to_stop(state.attempts, reached):
        return stop_chain(attempt, why)
    return 1


def stop_chain(attempt: Attempt, why: str) -> int:
    """Cancel every other job of the chain and write down why; returns this link's exit code."""
    attempt.log(f"{why}; the rest of the chain is cancelled, make train goes on once that is mended")
    slurm.cancel(other_jobs(attempt))
    attempt.tell("stopped", why)
    return 1


def cancel_surplus_links(attempt: Attempt) -> None:
    """The training is done: the links that still wait are not needed."""
    known = slurm.jobs(other_jobs(attempt, is_link))
    waiting = [i for i, row in known.items() if row.live]
    if waiting:
        attempt.log(f"cancels the surplus link{'s' if len(waiting) > 1 else ''} {', '.join(waiting)}")
        slurm.cancel(waiting)


def is_link(key: str) -> bool:
    """Whether a chain's job of this key is a training job."""
    return key.startswith("train-")


def other_jobs(attempt: Attempt, wanted: Callable[[str], bool] = lambda key: True) -> list[str]:
    """Slurm ids of this chain's other jobs whose key is wanted."""
    listed = Submitted.load(attempt.folder.jobs_json).jobs
    return [job.id for job in listed if wanted(job.key) and job.id != attempt.job]
