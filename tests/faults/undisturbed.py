"""The runs that nothing disturbs: what each stage starts from, what it leaves, and how long it takes."""

import hashlib
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from omr import files
from omr.run import checkpoints
from omr.workspace import RunFolder

from ..cluster.slurm.cluster import Cluster

RUN = Path("runs/micro/round1")
HALF = 12  # the step from which a disturbed training may have to go on
LEAST = 32_000  # bytes: what Slurm, a lock and a log take


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
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        text = sorted([row["problem"], row["number"], row["text"]] for row in rows)
    else:
        return files.sha256(path)
    return hashlib.sha256(json.dumps(text).encode()).hexdigest()


def products(root: Path, stage: Stage) -> dict[str, str]:
    """Digest of each file that a stage leaves in a workspace, by its path there."""
    found = {path for pattern in stage.makes for path in root.glob(pattern)}
    found = {p for p in found if p.is_file() and p.name not in ORIGINS and not p.name.startswith(".")}
    return {str(path.relative_to(root)): digest(path) for path in sorted(found)}


class Undisturbed:
    """Every stage run once, undisturbed, in a workspace that the trials take their copies from."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seconds: dict[str, float] = {}  # that a stage's first job ran
        self.products: dict[str, dict[str, str]] = {}
        self.sizes: dict[str, int] = {}  # bytes that a stage adds to the workspace

    def note(self, stage: Stage, seconds: float, before: int) -> None:
        """Write down what a stage left that has just ended."""
        self.seconds[stage.name] = seconds
        self.products[stage.name] = products(self.root, stage)
        assert self.products[stage.name], f"{stage.name} left nothing"
        self.sizes[stage.name] = max(LEAST, size(self.root) - before)

    def copy(self, target: Path, stage: str) -> None:
        """What there is when `stage` begins, in a workspace of its own; a training stands half-way."""
        order = list(STAGES)
        before = order[: order.index(stage)]
        target.mkdir(exist_ok=True)
        folders = {"data": ("raw", "data"), "model": ("models",), "prepare": ("cache",)}
        for word in (folder for name in before for folder in folders.get(name, ())):
            if stage != "prepare" or word != "cache":
                shutil.copytree(self.root / word, target / word)
        if stage in ("train", "convert", "average", "eval"):
            self._copy_run(target, stage)

    def _copy_run(self, target: Path, stage: str) -> None:
        kept = {"convert": ["checkpoints"], "average": ["checkpoints", "hf"]}
        kept = {**kept, "train": ["checkpoints"], "eval": ["checkpoints", "hf", "final"]}[stage]
        run = RunFolder(target / RUN)
        for word in kept:
            shutil.copytree(self.root / RUN / word, run.root / word, ignore=shutil.ignore_patterns(".*"))
        for name in ("run.json", "metrics.jsonl", "trl.yaml"):
            text = (self.root / RUN / name).read_text().replace(str(self.root), str(target))
            (run.root / name).write_text(text)
        if stage == "train":
            for step in checkpoints.steps(run.checkpoints):
                if step > HALF:
                    shutil.rmtree(run.checkpoint(step))
            rows = run.metrics.read_text().splitlines(keepends=True)
            run.metrics.write_text("".join(row for row in rows if json.loads(row)["step"] <= HALF))
        # A checkpoint names the run that it belongs to, and the paths of its base and data are part of that.
        identity = checkpoints.run_identity(files.read_json(run.run_json)["request"])
        for path in run.checkpoints.glob("*/complete.json"):
            files.write_json(path, {**files.read_json(path), "run": identity})


def size(root: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def make(cluster: Cluster, root: Path, say) -> Undisturbed:
    """Run every stage once; an AssertionError where one does not end well."""
    from .user import User

    made = Undisturbed(root)
    root.mkdir(parents=True)
    for stage in STAGES.values():
        for done in {"convert": ("hf", "final"), "average": ("final",)}.get(stage.name, ()):
            shutil.rmtree(root / RUN / done, ignore_errors=True)  # the chain made it already
        before, user = size(root), User(cluster, root)
        ids = user.submit(stage)
        began = user.running(ids)
        user.wait(dict([*ids.items()][:1]))
        seconds = time.monotonic() - began
        states = user.wait(ids)
        assert {*states.values()} <= {"COMPLETED", "CANCELLED"}, f"{stage.name}: {states} {user.said()}"
        made.note(stage, seconds, before)
        say(f"undisturbed  {stage.name:<8} {made.seconds[stage.name]:5.1f} s")
    return made
