"""A file that a stage reads is cut off, or a bit of it turns. The old one is brought back afterwards."""

import random
import shutil
import signal
import time
from pathlib import Path

from ...cluster.slurm.cluster import wait
from ..stages import RUN
from ..trial import Missed, Trial
from .base import ALL, Fault

MODEL = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
)
# Of each stage the kinds of files that it reads, below the workspace.
READ = {
    "data": ("raw/tiny/data/cot-*.parquet", "raw/tiny/data/tir-*.parquet", "raw/tiny/shards.json"),
    "prepare": (
        *("data/tiny-round1.jsonl", "data/tiny-round1.manifest.json"),
        *(f"cache/data/*/{name}" for name in ("data-*.arrow", "state.json", "manifest.json")),
    ),
    "train": (
        *("data/tiny-round1.jsonl", "data/tiny-round1.manifest.json"),
        *(f"models/micro/{name}" for name in (*MODEL, "manifest.json")),
        *(f"{RUN}/{name}" for name in ("run.json", "trl.yaml", "metrics.jsonl", "story.txt")),
        *(f"{RUN}/{name}" for name in ("rows-*.npy", "code/*/omr/**/*.py")),
        *(
            f"{RUN}/checkpoints/step_12/{name}"
            for name in ("model.safetensors", "optimizer.pt", "complete.json")
        ),
        *(f"{RUN}/checkpoints/step_12/{name}" for name in ("trainer_state.json", "config.json")),
        *(
            f"{RUN}/checkpoints/step_12/{name}"
            for name in ("scheduler.pt", "rng_state.pth", "tokenizer.json")
        ),
    ),
    "convert": (
        f"{RUN}/run.json",
        *(
            f"{RUN}/checkpoints/step_16/{name}"
            for name in ("model.safetensors", "config.json", "complete.json")
        ),
        "models/micro/config.json",
    ),
    "average": (
        f"{RUN}/run.json",
        *(f"{RUN}/hf/step_16/{name}" for name in ("model.safetensors", "config.json", "manifest.json")),
        *(f"{RUN}/hf/step_24/{name}" for name in ("generation_config.json", "tokenizer.json")),
    ),
    "eval": (
        *(f"{RUN}/final/{name}" for name in (*MODEL, "manifest.json", "chat_template.jinja")),
        *("eval/*/answers-0-of-1.jsonl", "eval/*/evaluation.json", f"{RUN}/run.json"),
    ),
}


# What an earlier start of a stage left, of which a trial's workspace has no copy yet.
EARLIER = ("raw", "cache", "eval", f"{RUN}/code")


def take(path: Path, trial: Trial) -> None:
    """Spoil a file, and bring the old one back when the fault is over, unless another one stands there."""
    kept = trial.root.with_name(f"{trial.root.name}.kept")
    shutil.copy2(path, kept)
    trial.damaged = path
    spoiled, what = _spoiled(path.read_bytes(), trial.dice)
    path.write_bytes(spoiled)
    trial.how = f"{path.relative_to(trial.root)}: {what}"

    def bring_back() -> None:
        if path.parent.is_dir() and (not path.exists() or path.read_bytes() == spoiled):
            shutil.copy2(kept, path)
        kept.unlink()

    trial.undo.append(bring_back)
    trial.strike()


def _spoiled(data: bytes, dice: random.Random) -> tuple[bytes, str]:
    """A file's bytes, cut off at a random one or with a random bit turned, and which it was."""
    at = dice.randrange(len(data) or 1)
    if not data or dice.random() < 0.5:
        return data[:at], f"cut off at byte {at:,} of {len(data):,}"
    bit = dice.randrange(8)
    turned = data[at] ^ 1 << bit
    return data[:at] + bytes([turned]) + data[at + 1 :], f"bit {bit} of byte {at:,} turned"


def _meet(trial: Trial) -> None:
    """The command meets the spoiled file: it does without, makes it again, or says what is wrong."""
    before, whole = trial.noticed, trial.attempt()
    states = [trial.user.state(job) for job in trial.jobs.values()]
    if whole and states[-1:] == ["COMPLETED"]:
        trial.noticed = before
    elif not whole and trial.noticed is None:
        assert {*states} - {"COMPLETED", "CANCELLED"}, "it ended well, and not as undisturbed"


def _read(pattern: str):
    """A file that is there when the stage begins."""

    def inflict(trial: Trial) -> None:
        _bring(pattern, trial)
        take(trial.dice.choice(sorted(trial.root.glob(pattern))), trial)
        _meet(trial)

    return inflict


def _bring(pattern: str, trial: Trial) -> None:
    """Copy what the undisturbed run has of a pattern's files, where the trial's workspace has none."""
    source, target = trial.undisturbed.root, trial.root
    if any(target.glob(pattern)):
        return
    for folder in EARLIER:
        if pattern.startswith(f"{folder}/"):
            shutil.copytree(source / folder, target / folder)
    if not any(target.glob(pattern)):
        for path in source.glob(pattern):
            shutil.copy2(path, target / path.relative_to(source))


def _record(trial: Trial) -> None:
    """What a submission writes down of its jobs, while they run; the next one reads it."""
    trial.begin()
    take(trial.root / trial.stage.record, trial)
    trial.end()
    _meet(trial)


def _shared(pattern: str):
    """What the links of a chain tell each other, while one trains."""

    def inflict(trial: Trial) -> None:
        trial.begin()

        def there() -> list[Path]:
            return sorted(path for path in trial.root.glob(f"{RUN}/{pattern}") if path.stat().st_size)

        wait(lambda: bool(there()), 30, f"{pattern} did not come")
        take(there()[-1], trial)
        trial.end()
        _meet(trial)

    return inflict


def _left_by_a_kill(trial: Trial) -> None:
    """What a job that is killed half-way leaves for the next one."""
    before = set(trial.root.rglob("*"))

    def left() -> list[Path]:
        other = {"logs", "code"}  # of the jobs alone, and many files of one kind
        new = (path for path in trial.root.rglob("*") if path not in before and not other & {*path.parts})
        return sorted(path for path in new if path.suffix != ".lock" and _has_bytes(path))

    job = trial.begin()
    while not left():  # it is still loading its libraries
        if trial.user.state(job) != "RUNNING":
            raise Missed
        time.sleep(0.05)
    trial.send(trial.processes(job), signal.SIGKILL)
    trial.end()
    trial.noticed = trial.struck = None
    if not (files := left()):
        raise Missed
    take(trial.dice.choice(files), trial)
    _meet(trial)


def _has_bytes(path: Path) -> bool:
    """Whether it is a file that is not empty; one that goes at this moment is none."""
    try:
        return path.is_file() and path.stat().st_size > 0
    except FileNotFoundError:
        return False


OWNERS = {
    "models/": "base's ",
    "/checkpoints/": "checkpoint's ",
    "/hf/": "step's ",
    "/final/": "final's ",
    "cache/": "prepared ",
    "/code/": "code's ",
}


def _faults():
    for stage, patterns in READ.items():
        for pattern in patterns:
            name = pattern.rpartition("/")[2].replace("-*", "")
            of = next((word for part, word in OWNERS.items() if part in pattern), "")
            yield Fault(f"{of}{name}", (stage,), _read(pattern))


FAULTS = (
    *_faults(),
    Fault("jobs.json", ALL, _record),
    Fault("links.json", ("train",), _shared("links.json")),
    Fault("the lease", ("train",), _shared("lease/*")),
    Fault("what a killed job left", tuple(stage for stage in ALL if stage != "convert"), _left_by_a_kill),
)
