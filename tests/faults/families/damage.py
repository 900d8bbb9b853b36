"""A file that a stage reads is cut off, or a bit of it turns. The old one is brought back afterwards."""

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
    "prepare": ("data/tiny-round1.jsonl", "data/tiny-round1.manifest.json"),
    "train": (
        *("data/tiny-round1.jsonl", "data/tiny-round1.manifest.json"),
        *(f"models/micro/{name}" for name in (*MODEL, "manifest.json")),
        *(f"{RUN}/{name}" for name in ("run.json", "trl.yaml", "metrics.jsonl")),
        *(
            f"{RUN}/checkpoints/step_12/{name}"
            for name in ("model.safetensors", "optimizer.pt", "complete.json")
        ),
        *(f"{RUN}/checkpoints/step_12/{name}" for name in ("trainer_state.json", "config.json")),
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
        "eval/*/answers-0-of-1.jsonl",
    ),
}


def _spoil(path: Path, trial: Trial) -> None:
    """Cut a file off at a random byte, or turn a random bit of it."""
    data = bytearray(path.read_bytes())
    if not data or trial.dice.random() < 0.5:
        del data[trial.dice.randrange(len(data) or 1) :]
    else:
        data[trial.dice.randrange(len(data))] ^= 1 << trial.dice.randrange(8)
    path.write_bytes(data)


def _take(path: Path, trial: Trial) -> None:
    """Spoil a file, and bring the old one back when the fault is over, unless another one stands there."""
    kept = trial.root.with_name(f"{trial.root.name}.kept")
    shutil.copy2(path, kept)
    trial.damaged = path
    _spoil(path, trial)
    spoiled = path.read_bytes()

    def bring_back() -> None:
        if path.parent.is_dir() and (not path.exists() or path.read_bytes() == spoiled):
            shutil.copy2(kept, path)
        kept.unlink()

    trial.undo.append(bring_back)
    trial.strike()


def _read(pattern: str):
    """A file that is there when the stage begins."""

    def inflict(trial: Trial) -> None:
        if trial.stage.name == "data":  # its own first step makes the raw files
            shutil.copytree(trial.undisturbed.root / "raw", trial.root / "raw")
        if trial.stage.name == "eval":  # as an evaluation leaves it that was killed before it counted
            shutil.copytree(trial.undisturbed.root / "eval", trial.root / "eval")
        _take(trial.dice.choice(sorted(trial.root.glob(pattern))), trial)
        if trial.attempt():
            trial.noticed = None  # it did without the file, or made it again

    return inflict


def _record(trial: Trial) -> None:
    """What a submission writes down of its jobs, while they run; the next one reads it."""
    trial.begin()
    _take(trial.root / trial.stage.record, trial)
    trial.end()
    trial.noticed = None if trial.attempt() else trial.noticed


def _shared(pattern: str):
    """What the links of a chain tell each other, while one trains."""

    def inflict(trial: Trial) -> None:
        trial.begin()

        def there() -> list[Path]:
            return sorted(path for path in trial.root.glob(f"{RUN}/{pattern}") if path.stat().st_size)

        wait(lambda: bool(there()), 30, f"{pattern} did not come")
        _take(there()[-1], trial)
        trial.end()
        trial.noticed = None if trial.attempt() else trial.noticed

    return inflict


def _left_by_a_kill(trial: Trial) -> None:
    """What a job that is killed half-way leaves for the next one."""
    before = set(trial.root.rglob("*"))

    def left() -> list[Path]:
        new = (path for path in trial.root.rglob("*") if path not in before and "logs" not in path.parts)
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
    _take(trial.dice.choice(files), trial)
    trial.noticed = None if trial.attempt() else trial.noticed


def _has_bytes(path: Path) -> bool:
    """Whether it is a file that is not empty; one that goes at this moment is none."""
    try:
        return path.is_file() and path.stat().st_size > 0
    except FileNotFoundError:
        return False


def _faults():
    for stage, patterns in READ.items():
        for pattern in patterns:
            name = pattern.rpartition("/")[2].replace("-*", "")
            kind = "checkpoint's " if "/checkpoints/" in pattern else "step's " if "/hf/" in pattern else ""
            yield Fault(f"{kind}{name}", (stage,), _read(pattern))


FAULTS = (
    *_faults(),
    Fault("jobs.json", ALL, _record),
    Fault("links.json", ("train",), _shared("links.json")),
    Fault("the lease", ("train",), _shared("lease/*")),
    Fault("what a killed job left", tuple(stage for stage in ALL if stage != "convert"), _left_by_a_kill),
)
