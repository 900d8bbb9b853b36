"""A file that a stage reads is cut off, or a bit of it turns. The old one is brought back afterwards."""

import shutil
from pathlib import Path

from ..stages import RUN
from ..trial import Trial
from .base import Fault

MODEL = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
)
# Of each stage the kinds of files that it reads, below the workspace.
READ = {
    "data": ("raw/tiny/data/cot-*.parquet", "raw/tiny/data/tir-*.parquet"),
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
    "eval": tuple(f"{RUN}/final/{name}" for name in (*MODEL, "manifest.json", "chat_template.jinja")),
}


def _spoiled(pattern: str, spoil):
    def inflict(trial: Trial) -> None:
        if trial.stage.name == "data":  # its own first step makes the raw files
            shutil.copytree(trial.undisturbed.root / "raw", trial.root / "raw")
        path = trial.dice.choice(sorted(trial.root.glob(pattern)))
        kept = trial.root.with_name(f"{trial.root.name}.kept")
        shutil.copy2(path, kept)
        trial.damaged = path

        def bring_back() -> None:
            if path.parent.is_dir() and not trial.whole():
                shutil.copy2(kept, path)
            kept.unlink()

        trial.undo.append(bring_back)
        spoil(path, trial)
        trial.strike()
        if trial.attempt():
            trial.noticed = None  # it did without the file, or made it again

    return inflict


def _cut(path: Path, trial: Trial) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: trial.dice.randrange(len(data))])


def _altered(path: Path, trial: Trial) -> None:
    data = bytearray(path.read_bytes())
    data[trial.dice.randrange(len(data))] ^= 1 << trial.dice.randrange(8)
    path.write_bytes(data)


def _faults():
    for stage, patterns in READ.items():
        for pattern in patterns:
            name = pattern.rpartition("/")[2].replace("-*", "")
            kind = "checkpoint's " if "/checkpoints/" in pattern else "step's " if "/hf/" in pattern else ""
            yield Fault(f"{kind}{name} is cut off", (stage,), _spoiled(pattern, _cut))
            yield Fault(f"a bit of {kind}{name} is turned", (stage,), _spoiled(pattern, _altered))


FAULTS = tuple(_faults())
