"""The runs that nothing disturbs: what each stage starts from, what it leaves, and how long it takes."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from omr import files
from omr.run import checkpoints
from omr.workspace import RunFolder

from ..cluster.slurm.cluster import Cluster
from .stages import RUN, STAGES, Stage, products, size
from .user import User

HALF = 12  # the step from which a disturbed training may have to go on
LEAST = 32_000  # bytes: what Slurm, a lock and a log take


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


def make(cluster: Cluster, root: Path, say: Callable[[str], None]) -> Undisturbed:
    """Run every stage once; an AssertionError where one does not end well."""
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
