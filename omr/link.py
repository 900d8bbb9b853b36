"""One link of a training chain, on the first node of its allocation: prove, lease, supervise, judge.

A link counts by what it leaves: a new whole checkpoint, or a complete run; never by an exit code. What
happened is one line each in <run>/story.txt; what the next link must know is in <run>/links.json.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from omr import lease, preflight, recipe, runs, slurm
from omr.errors import OmrError
from omr.files import read_json, write_json
from omr.workspace import RunFolder, Workspace

FRUITLESS = 2  # links in a row without a new checkpoint before the chain is stopped
FIRST_MARGIN = 600  # seconds before the end, as long as no save was measured
LEAST_MARGIN = 60


@dataclass
class Probe:
    """How an engine's checkpoints are looked at (steps are optimiser steps)."""

    whole: Callable[[Path], list[int]]
    mend: Callable[[Path], list[str]]


@dataclass
class Attempt:
    """This start of this job."""

    run: recipe.Run
    folder: RunFolder
    workspace: Workspace
    job: str
    restart: int
    link: str  # `2 of 4`
    probe: Probe
    margin: int | None = None  # seconds; None: learned
    stopped: list[str] = field(default_factory=list)  # why it was asked to stop

    @property
    def who(self) -> str:
        """How the story names it."""
        return f"link {self.link}, job {self.job}" + (f", start {self.restart + 1}" if self.restart else "")

    def say(self, line: str) -> None:
        """Into the story and this job's own log."""
        print(line, flush=True)
        tell(self.folder, f"{self.who}: {line}")


def tell(folder: RunFolder, line: str) -> None:
    """Append a line to the run's story."""
    with folder.story.open("a") as handle:
        handle.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}\n")


def complete(run: recipe.Run, folder: RunFolder, whole: Iterable[int]) -> bool:
    """Is the training done: the last step and every averaged one are there, whole, or the end result is?"""
    if (folder.final / "manifest.json").exists():
        return True
    there = {n for n in run.schedule.averaged if (folder.hf_step(n) / "manifest.json").exists()}
    return {*run.schedule.averaged, run.schedule.steps} <= {*whole, *there}


def read(folder: RunFolder) -> dict:
    """What links know of each other: `chain`, `attempts`, `data`, `save_seconds`."""
    return read_json(folder.links_json) if folder.links_json.exists() else {}


def note(folder: RunFolder, **facts: object) -> dict:
    """Change some of it, atomically."""
    known = {**read(folder), **facts}
    write_json(folder.links_json, known)
    return known


def fruitless(attempts: Sequence[dict], now: int) -> int:
    """How many of the last attempts in a row left no new checkpoint; `now` is the newest whole step.

    An attempt that was killed could not write its `to`; then what the next one began from tells.
    """
    count, later = 0, now
    for attempt in reversed(attempts):
        if attempt.get("to", later) > attempt["from"]:
            break
        count, later = count + 1, attempt["from"]
    return count


def learned_margin(known: dict, left: float | None = None) -> int:
    """Seconds before the end by which saving must begin: twice the longest save seen, and half a minute.

    Before any save was seen ten minutes, but no more than a quarter of what is `left` of the allocation.
    """
    if known.get("save_seconds"):
        return int(max(LEAST_MARGIN, 2 * known["save_seconds"] + 30))
    return int(min(FIRST_MARGIN, left / 4 if left else FIRST_MARGIN))


def run_link(attempt: Attempt, command: Sequence[str], words: dict) -> int:
    """The whole life of a link; returns its exit code."""
    run, folder = attempt.run, attempt.folder
    whole = attempt.probe.whole(folder.checkpoints)
    if complete(run, folder, whole):
        attempt.say("the training is complete; nothing to do")
        cancel_surplus(attempt)
        return 0
    known = read(folder)
    past = known.get("attempts", [])
    if _same_chain(folder, known) and fruitless(past, max(whole, default=0)) >= FRUITLESS:
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
    if past and "to" not in past[-1] and _same_chain(folder, known):
        attempt.say(f"job {past[-1]['job']} ended without a word ({_fate(past[-1]['job'])})")
    for line in attempt.probe.mend(folder.checkpoints):
        attempt.say(line)
    start = max(attempt.probe.whole(folder.checkpoints), default=0)
    entry = {"job": attempt.job, "restart": attempt.restart, "from": start, "began": time.time()}
    past = [*past, entry] if _same_chain(folder, known) else [entry]
    note(folder, chain=_chain(folder), attempts=past)
    attempt.say(f"trains on from step {start}" if start else "trains from the start")
    code, seconds = supervise(attempt, held, command, inherit(attempt, words))
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


def _chain(folder: RunFolder) -> str | None:
    return read_json(folder.jobs_json).get("chain") if folder.jobs_json.exists() else None


def _same_chain(folder: RunFolder, known: dict) -> bool:
    return known.get("chain") == _chain(folder)


def _prove(attempt: Attempt, known: dict, words: dict) -> None:
    """Everything that can be known in seconds; raises an OmrError of one line."""
    run, folder = attempt.run, attempt.folder
    preflight.secrets_file()
    preflight.image(os.environ.get("CONTAINER"))
    wanted = runs.request(run, attempt.workspace, **words)
    request = runs.freeze(folder, wanted)["request"]
    how = preflight.data(request["data"], known.get("data"), bool(os.environ.get("VERIFY")))
    if not known.get("data"):
        note(folder, data=preflight.fingerprint(Path(request["data"]["path"])))
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
    if not (cache / CONVERTED).exists():
        try:
            lease.take(cache.with_name(f"{cache.name}.lease"), attempt.job, attempt.restart, slurm.is_active)
        except lease.Held:
            cache = attempt.folder.root / "megatron"
        if not (cache / CONVERTED).exists():
            shutil.rmtree(cache, ignore_errors=True)
    return {**found, "NRL_MEGATRON_CHECKPOINT_DIR": str(cache)}


CONVERTED = "converted.json"  # omr/nemo_driver.py writes it


def supervise(
    attempt: Attempt, held: lease.Lease, command: Sequence[str], more: Mapping[str, str]
) -> tuple[int, float]:
    """Run the engine until it ends, the allocation nearly does, or the lease is lost.

    Returns its exit code and the longest save seen (seconds). The engine is asked to save and stop by a file;
    what an engine does on signals, and which of them reach it through srun and a container, differs.
    """
    folder = attempt.folder
    stop = folder.root / f".stop-{attempt.job}-{attempt.restart}"
    environ = {**os.environ, **more, lease.VARIABLE: str(held.path), "OMR_STOP": str(stop)}
    environ["OMR_METRICS"] = str(folder.metrics)
    token = folder.root / f".ray-{attempt.job}-{attempt.restart}"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    environ["RAY_AUTH_TOKEN_PATH"] = str(token)
    ends = _Ends(attempt, read(folder))
    if ends.deadline:
        environ["OMR_DEADLINE"] = str(ends.deadline)
    log = folder.logs / f"engine-{attempt.job}-{attempt.restart}.log"
    watch = _SaveWatch(folder.checkpoints)
    asked: list[str] = []
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda n, _: asked.append(signal.Signals(n).name))
    try:
        with log.open("ab") as out:
            child = subprocess.Popen(command, stdout=out, stderr=out, env=environ, start_new_session=True)
        while child.poll() is None:
            time.sleep(0.2)
            watch.look()
            if not held.holds:
                _end(child)
                break
            reason = _reason(asked, ends)
            if reason and not attempt.stopped:
                attempt.stopped.append(reason)
                attempt.say(f"{reason}: saves and stops")
                stop.touch()
        return child.wait(), watch.longest
    finally:
        token.unlink(missing_ok=True)
        stop.unlink(missing_ok=True)


def _reason(asked: list[str], ends: "_Ends") -> str | None:
    """Why the engine should stop now, if it should. USR2 means: look again at the end."""
    while asked:
        name = asked.pop()
        if name == "SIGTERM":
            return "Slurm ends this job"
        ends.look()
    if ends.late():
        return f"the allocation ends in {ends.margin} s"
    return None


class _Ends:
    """When the allocation ends; asked for again each minute, because a limit may be changed."""

    def __init__(self, attempt: Attempt, known: dict) -> None:
        self.job = attempt.job
        self.end: float | None = None
        self.look()
        left = self.end - time.time() if self.end else None
        self.margin = attempt.margin if attempt.margin is not None else learned_margin(known, left)

    @property
    def deadline(self) -> float | None:
        return self.end - self.margin if self.end else None

    def look(self) -> None:
        self.looked = time.time()
        with contextlib.suppress(OmrError):  # the controller may be away: the end that we know stands
            self.end = slurm.end_time(self.job) or self.end

    def late(self) -> bool:
        if time.time() - self.looked > 60:
            self.look()
        return self.deadline is not None and time.time() >= self.deadline


class _SaveWatch:
    """Measures saves from outside: from tmp_step_<n> appearing to step_<n> standing."""

    def __init__(self, checkpoints: Path) -> None:
        self.folder, self.longest, self.since = checkpoints, 0.0, {}

    def look(self) -> None:
        now = {p.name for p in self.folder.glob("tmp_step_*")} if self.folder.is_dir() else set()
        for name in now - set(self.since):
            self.since[name] = time.time()
        for name in set(self.since) - now:
            self.longest = max(self.longest, time.time() - self.since.pop(name))


def _end(child: subprocess.Popen) -> None:
    """End a step: srun passes SIGTERM on, and its second to the nodes' daemons."""
    for number, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        try:
            os.killpg(child.pid, number)
            child.wait(seconds)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def judge(attempt: Attempt, start: int, code: int, save_seconds: float) -> int:
    """What the link left decides: complete, a new whole checkpoint, or nothing."""
    run, folder = attempt.run, attempt.folder
    whole = attempt.probe.whole(folder.checkpoints)
    reached = max(whole, default=0)
    known = read(folder)
    attempts = known.get("attempts", [])
    attempts[-1] |= {"to": reached, "code": code, "ended": time.time(), "why": attempt.stopped}
    note(folder, attempts=attempts, save_seconds=max(save_seconds, known.get("save_seconds") or 0.0))
    if complete(run, folder, whole):
        attempt.say(f"the training is complete at step {run.schedule.steps}")
        cancel_surplus(attempt)
        return 0
    tidy(run, folder, whole)
    log = folder.logs / f"engine-{attempt.job}-{attempt.restart}.log"
    ended = f"the engine ended with {code}: {last_line(log)}; see {log}"
    if reached > start:
        attempt.say(f"saved step {reached} of {run.schedule.steps}" + (f"; {ended}" if code else ""))
        return 0
    attempt.say(f"left no new checkpoint; {ended}")
    if fruitless(attempts, reached) >= FRUITLESS:
        return trip(attempt, f"{FRUITLESS} links in a row left no new checkpoint")
    return 1


def last_line(log: Path) -> str:
    """The most telling of an engine's last words: the last line that names an error, else the last."""
    try:
        with log.open("rb") as handle:
            handle.seek(max(0, handle.seek(0, 2) - 20_000))
            text = handle.read().decode(errors="replace")
    except OSError:
        return "it wrote no log"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("srun:", "slurmstepd"))]
    telling = [line for line in lines if "rror" in line]
    return (telling or lines or ["it said nothing"])[-1][:300]


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


def probe(engine: str) -> Probe:
    """How this engine's checkpoints are looked at."""
    if engine == "nemo-rl":
        from omr import sealed

        return Probe(sealed.whole, sealed.mend)
    from omr import checkpoints

    return Probe(checkpoints.whole, checkpoints.mend)


def after_training(attempt: Attempt) -> int:
    """0 if the training is complete; else 1, and the story says how far it is."""
    run, folder = attempt.run, attempt.folder
    whole = attempt.probe.whole(folder.checkpoints)
    if complete(run, folder, whole):
        return 0
    first = os.environ.get("SLURM_ARRAY_TASK_ID", "0") == "0"
    line = f"the training stands at step {max(whole, default=0)} of {run.schedule.steps}; make train goes on"
    print(line)
    if first:
        tell(folder, f"convert, job {attempt.job}: {line}")
    return 1


def run_stage(stage: str, command: Sequence[str]) -> int:
    """Run a stage's step to its end; it fails with the step's own code, and says so in the run's story."""
    code = subprocess.run(command).returncode
    if code and (root := os.environ.get("RUN_DIR")):
        job = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID")
        tell(RunFolder(Path(root)), f"{stage}, job {job}: failed with exit code {code}; its log says why")
    return code
