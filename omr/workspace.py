"""Every path, the same on every runner. Standard library only; nothing is created here."""

from dataclasses import dataclass
from pathlib import Path

from omr import recipe
from omr.recipe import Run


def manifest_of(path: Path) -> Path:
    """Where the origin of `path` is written: beside a file, inside a folder."""
    return path / "manifest.json" if path.suffix != ".jsonl" else path.with_suffix(".manifest.json")


@dataclass(frozen=True)
class RunFolder:
    """One folder per (model, round, variant, EDITION, NAME)."""

    root: Path

    @property
    def lease(self) -> Path:
        """Who may write here now."""
        return self.root / "lease"

    @property
    def run_json(self) -> Path:
        """The frozen request."""
        return self.root / "run.json"

    @property
    def jobs_json(self) -> Path:
        """Slurm ids of the chain, in order."""
        return self.root / "jobs.json"

    @property
    def checkpoints(self) -> Path:
        """What the engine saved: `step_<n>` folders."""
        return self.root / "checkpoints"

    @property
    def hf(self) -> Path:
        """Checkpoints in Hugging Face format: `step_<n>` folders."""
        return self.root / "hf"

    @property
    def final(self) -> Path:
        """The averaged, self-consistent model: round 2 starts from it."""
        return self.root / "final"

    @property
    def logs(self) -> Path:
        """One file per job and attempt."""
        return self.root / "logs"

    @property
    def event_log(self) -> Path:
        """What happened to the run's jobs, a line each, for people."""
        return self.root / "story.txt"

    @property
    def links_json(self) -> Path:
        """What the links of a chain know of each other."""
        return self.root / "links.json"

    @property
    def metrics(self) -> Path:
        """One JSON line per optimiser step: step, time, loss and what else the engine tells."""
        return self.root / "metrics.jsonl"

    @property
    def validation_json(self) -> Path:
        """The losses of the final model, and of each part that it is the mean of, on held-out rows."""
        return self.root / "validation.json"

    @property
    def eval_json(self) -> Path:
        """Accuracy before and after this run."""
        return self.root / "eval.json"

    @property
    def report(self) -> Path:
        """The self-contained page about this run."""
        return self.root / "report.html"

    def engine_yaml(self, engine: str) -> Path:
        """Exactly what the engine reads."""
        return self.root / f"{engine.replace('-', '_')}.yaml"

    def checkpoint(self, step: int) -> Path:
        """The checkpoint after `step` optimiser steps."""
        return self.checkpoints / f"step_{step}"

    def hf_step(self, step: int) -> Path:
        """The same step in Hugging Face format."""
        return self.hf / f"step_{step}"


@dataclass(frozen=True)
class Workspace:
    """The folder where everything lands."""

    root: Path

    def raw(self, dataset: str) -> Path:
        """Parquet as published, at the pinned revision."""
        return self.root / "raw" / dataset

    def tokenizer(self, repo: str) -> Path:
        """A tokenizer that was brought from a repository of the hub."""
        return self.raw("tokenizers") / repo.split("/")[-1]

    def data(
        self, dataset: str, round_key: str, modes: tuple[str, ...] | None = None, name: str | None = None
    ) -> Path:
        """The mixed SFT file; a subset of MODES and a NAME are part of the file name."""
        subset = "" if modes in (None, recipe.modes(None, dataset)) else "-" + "+".join(modes)
        return self.root / "data" / f"{dataset}-{round_key}{subset}{f'-{name}' if name else ''}.jsonl"

    def model(self, model: str) -> Path:
        """The base model, patched."""
        return self.root / "models" / model

    @property
    def evaluations(self) -> Path:
        """Answers of models to problems, a folder for each evaluation."""
        return self.root / "eval"

    @property
    def benchmarks(self) -> Path:
        """Problems that a benchmark's own prepare step made."""
        return self.root / "benchmarks"

    @property
    def report(self) -> Path:
        """The page about all of it."""
        return self.root / "report.html"

    def run(self, run: Run) -> RunFolder:
        """The run's own folder."""
        return RunFolder(self.root / "runs" / run.model.folder / run.key)
