"""The stages of the recipe as their users start them on Slurm, and what each leaves."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from omr import files
from omr.evaluation import samples

RUN = Path("runs/micro/round1")


@dataclass(frozen=True)
class Stage:
    """A stage of the recipe, as its users start it on Slurm."""

    name: str
    script: str
    tier: str  # the environment that it needs
    words: tuple[str, ...]
    settings: tuple[tuple[str, str], ...] = ()
    submits: bool = False  # the script submits its jobs itself
    record: str = ""  # where the ids of its jobs are, below the workspace
    makes: tuple[str, ...] = ()  # patterns of the files that it leaves, below the workspace


MICRO = ("--model", "micro")
STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            *("data", "bin/data.py", "data", ("--dataset", "tiny")),
            record="logs/data.jobs.json",
            makes=("data/tiny-round1.jsonl",),
        ),
        Stage(
            "model", "bin/model.py", "data", MICRO, record="logs/model.jobs.json", makes=("models/micro/*",)
        ),
        Stage(
            *("prepare", "bin/prepare.py", "data", (*MICRO, "--engine", "nemo-rl", "--name", "nemo")),
            record="logs/prepare.jobs.json",
            makes=("cache/data/*/*",),
        ),
        Stage(
            *("train", "bin/train.py", "train", (*MICRO, "--num_training_jobs", "2")),
            (("OMR_STEP_DELAY", "0.2"), ("TIME", "5"), ("MARGIN", "30")),
            submits=True,
            record=f"{RUN}/jobs.json",
            makes=(f"{RUN}/checkpoints/step_24/model.safetensors", f"{RUN}/hf/step_*/*", f"{RUN}/final/*"),
        ),
        Stage(
            *("convert", "bin/convert.py", "data", MICRO),
            record="logs/convert.jobs.json",
            makes=(f"{RUN}/hf/step_*/*",),
        ),
        Stage(
            *("average", "bin/average.py", "data", MICRO),
            record="logs/average.jobs.json",
            makes=(f"{RUN}/final/*",),
        ),
        Stage(
            *("eval", "bin/eval.py", "train", (*MICRO, "--temperature", "0", "--max_tokens", "12")),
            submits=True,
            record=f"{RUN}/eval.jobs.json",
            makes=(f"{RUN}/eval.json", "eval/*/answers-*.jsonl"),
        ),
    )
}
# What says where, when and by which command a file was made differs from run to run.
ORIGINS = ("manifest.json", "README.md")


def digest(path: Path) -> str:
    """Hex digest of what a file says; of an evaluation, without the seconds that it took."""
    if path.name == "eval.json":
        modes = json.loads(path.read_text()).values()
        text = [[model["scores"] for model in mode["models"].values()] for mode in modes]
    elif path.name.startswith("answers-"):
        found = samples.read(path.parent)
        text = sorted([one.id.problem, one.id.number, one.answer.text] for one in found)
    else:
        return files.sha256(path)
    return hashlib.sha256(json.dumps(text).encode()).hexdigest()


def products(root: Path, stage: Stage) -> dict[str, str]:
    """Digest of each file that a stage leaves in a workspace, by its path there."""
    found = {path for pattern in stage.makes for path in root.glob(pattern)}
    found = {p for p in found if p.is_file() and p.name not in ORIGINS and not p.name.startswith(".")}
    return {str(path.relative_to(root)): digest(path) for path in sorted(found)}


def size(root: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
