"""One link of a training chain, on the first node of its allocation: prove, lease, train, judge.

A link counts by what it leaves: a new whole checkpoint, or a complete run; never by an exit code.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from omr import lease, preflight, recipe, runs, slurm, story, supervise
from omr.errors import OmrError
from omr.files import read_json
from omr.story import Attempt
from omr.workspace import RunFolder

FRUITLESS = 2  # links in a row without a new checkpoint before the chain is stopped


def run_link(attempt: Attempt, command: Sequence[str], words: dict) -> int:
    """The whole life of a link; returns its exit code."""
    run, folder = attempt.run, attempt.folder
    whole = attempt.probe.whole(folder.checkpoints)
    if story.complete(run, folder, whole):
        attempt.say("the training is complete; nothing to do")
        cancel_surplus(attempt)
        return 0
    known = story.read(folder)
    past = known.get("attempts", [])
    if story.same_chain(folder, known) and story.fruitless(past, max(whole, default=0)) >= FRUITLESS:
        return trip(attempt, f"{FRUITLESS} links in a row left no new checkpoint")
    try:
        held = lease.take(folder.lease, attempt.job, attempt.restart, slurm.is_active)
    except lease.Held as error:
        attempt.say(f"refused: {error}")
        return 1
    try:
        _prove(attempt, known, words)
    except OmrError as error:
        return trip(attempt, f"refused: {error}")
    if past and "to" not in past[-1] and story.same_chain(folder, known):
        attempt.say(f"job {past[-1]['job']} ended without a word ({_fate(past[-1]['job'])})")
    for line in attempt.probe.mend(folder.checkpoints):
        attempt.say(line)
    start = max(attempt.probe.whole(folder.checkpoints), default=0)
    entry = {"job": attempt.job, "restart": attempt.restart, "from": start, "began": time.time()}
    past = [*past, entry] if story.same_chain(folder, known) else [entry]
    story.note(folder, chain=story.chain(folder), attempts=past)
    attempt.say(f"trains on from step {start}" if start else "trains from the start")
    code, seconds = supervise.run(attempt, held, command, inherit(attempt, words))
    if not held.holds:
        print(f"another job has taken over {folder.root}; this one ends", flush=True)
        return 1
    return judge(attempt, start, code, seconds)


def _fate(job: str) -> str:
    """How Slurm says that a job ended, in a few words."""
    with contextlib.suppress(OmrError):
        row = slurm.jobs([job]).get(job)
        if row and job != os.environ.get("SLURM_JOB_ID"):
            return f"Slurm says {row.state.lower()}"
    return "killed, or its node was lost"


def _prove(attempt: Attempt, known: dict, words: dict) -> None:
    """Everything that can be known in seconds; raises an OmrError of one line."""
    run, folder = attempt.run, attempt.folder
    preflight.secrets_file()
    preflight.image(os.environ.get("CONTAINER"))
    wanted = runs.request(run, attempt.workspace, **words)
    request = runs.freeze(folder, wanted)["request"]
    how = preflight.data(request["data"], known.get("data"), bool(os.environ.get("VERIFY")))
    if not known.get("data"):
        story.note(folder, data=preflight.fingerprint(Path(request["data"]["path"])))
    preflight.base(request["base"], run.model, "patched" if run.round.number == 1 else "final")
    preflight.disk(folder.root, run.model)
    token = secrets.token_hex(8)
    canary = preflight.canary(folder.root, token)
    if "SLURM_JOB_NUM_NODES" in os.environ:
        nodes = os.environ["SLURM_JOB_NUM_NODES"]
        script = Path(os.environ["OMR_ROOT"], "slurm", "canary.sh")
        step = [
            "srun",
            f"--nodes={nodes}",
            "--ntasks-per-node=1",
            "--kill-on-bad-exit=1",
            "bash",
            str(script),
        ]
        done = subprocess.run([*step, str(canary), token], capture_output=True, text=True, timeout=300)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("error: node")]
            said = (lines or done.stderr.splitlines() or ["the nodes do not answer"])[0]
            raise OmrError(said.removeprefix("error: "))
    print(f"data proved by {how}; base, image, disk and nodes are as they must be", flush=True)


def inherit(attempt: Attempt, words: dict) -> dict[str, str]:
    """What NeMo-RL would build at every start and finds made: the data set, and the converted base.

    The conversion cache counts only once a run has loaded from it; a half-made one is removed. Where another
    live job is at it, this run makes one of its own.
    """
    if words["engine"] != "nemo-rl":
        return {}
    from omr import convert, prepare

    found = {}
    request = read_json(attempt.folder.run_json)["request"]
    if prepare.finished(attempt.workspace, request["data"]["sha256"], words["limit"]):
        found["OMR_DATA"] = str(prepare.folder(attempt.workspace, request["data"]["sha256"], words["limit"]))
    cache = convert.cache(attempt.workspace, Path(request["base"]["path"]))
    if not (cache / convert.CONVERTED).exists():
        try:
            lease.take(cache.with_name(f"{cache.name}.lease"), attempt.job, attempt.restart, slurm.is_active)
        except lease.Held:
            cache = attempt.folder.root / "megatron"
        if not (cache / convert.CONVERTED).exists():
            shutil.rmtree(cache, ignore_errors=True)
    return {**found, "NRL_MEGATRON_CHECKPOINT_DIR": str(cache)}


def judge(attempt: Attempt, start: int, code: int, save_seconds: float) -> int:
    """What the link left decides: complete, a new whole checkpoint, or nothing."""
    run, folder = attempt.run, attempt.folder
    whole = attempt.probe.whole(folder.checkpoints)
    reached = max(whole, default=0)
    known = story.read(folder)
    attempts = known.get("attempts", [])
    attempts[-1] |= {"to": reached, "code": code, "ended": time.time(), "why": attempt.stopped}
    story.note(folder, attempts=attempts, save_seconds=max(save_seconds, known.get("save_seconds") or 0.0))
    if story.complete(run, folder, whole):
        attempt.say(f"the training is complete at step {run.schedule.steps}")
        cancel_surplus(attempt)
        return 0
    tidy(run, folder, whole)
    log = folder.logs / f"engine-{attempt.job}-{attempt.restart}.log"
    ended = f"the engine ended with {code}: {supervise.last_line(log)}; see {log}"
    if reached > start:
        attempt.say(f"saved step {reached} of {run.schedule.steps}" + (f"; {ended}" if code else ""))
        return 0
    attempt.say(f"left no new checkpoint; {ended}")
    if story.fruitless(attempts, reached) >= FRUITLESS:
        return trip(attempt, f"{FRUITLESS} links in a row left no new checkpoint")
    return 1


def tidy(run: recipe.Run, folder: RunFolder, whole: Sequence[int]) -> None:
    """Remove deadline checkpoints that are no longer needed: neither averaged, nor of the newest two."""
    keep = {*run.schedule.averaged, *sorted(whole)[-2:]}
    for step in whole:
        if step not in keep and step % run.schedule.save_period:
            shutil.rmtree(folder.checkpoint(step), ignore_errors=True)


def trip(attempt: Attempt, why: str) -> int:
    """Stop the chain: cancel what waits, and say why where the next reader looks."""
    attempt.say(f"{why}; the rest of the chain is cancelled, make train goes on once that is mended")
    slurm.cancel(others(attempt, lambda key: True))
    return 1


def cancel_surplus(attempt: Attempt) -> None:
    """The training is done: the links that still wait are not needed."""
    ids = others(attempt, lambda key: key.startswith("train-"))
    waiting = [i for i in ids if (row := slurm.jobs([i]).get(i)) and row.live]
    if waiting:
        attempt.say(f"cancels the surplus link{'s' if len(waiting) > 1 else ''} {', '.join(waiting)}")
        slurm.cancel(waiting)


def others(attempt: Attempt, wanted: Callable[[str], bool]) -> list[str]:
    """Ids of this chain's other jobs whose key is wanted."""
    if not attempt.folder.jobs_json.exists():
        return []
    listed = read_json(attempt.folder.jobs_json).get("jobs", [])
    return [job["id"] for job in listed if wanted(job["key"]) and job["id"] not in (None, attempt.job)]


def after_training(attempt: Attempt) -> int:
    """0 if the training is complete; else 1, and the story says how far it is."""
    run, folder = attempt.run, attempt.folder
    whole = attempt.probe.whole(folder.checkpoints)
    if story.complete(run, folder, whole):
        return 0
    first = os.environ.get("SLURM_ARRAY_TASK_ID", "0") == "0"
    line = f"the training stands at step {max(whole, default=0)} of {run.schedule.steps}; make train goes on"
    print(line)
    if first:
        story.tell(folder, f"convert, job {attempt.job}: {line}")
    return 1


def run_stage(stage: str, command: Sequence[str]) -> int:
    """Run a stage's step to its end; it fails with the step's own code, and says so in the run's story."""
    code = subprocess.run(command).returncode
    if code and (root := os.environ.get("RUN_DIR")):
        job = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID")
        story.tell(
            RunFolder(Path(root)), f"{stage}, job {job}: failed with exit code {code}; its log says why"
        )
    return code
