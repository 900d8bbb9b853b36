"""What `make eval` is asked with: which models answer which problems, how often and how."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from omr import manifest, recipe
from omr.errors import RequestError
from omr.evaluation import benchmarks
from omr.evaluation.problems import ProblemSet
from omr.run import frozen
from omr.workspace import RunFolder, Workspace


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn."""

    samples: int  # of each problem
    temperature: float  # 0: the likeliest token each time
    top_p: float  # tokens of so much probability together
    max_tokens: int  # of an answer


@dataclass(frozen=True)
class Means:
    """By what problems are answered."""

    server: str | None = None  # SERVER: the address of one that runs already
    unproved: bool = False  # ALLOW=server: whatever it calls its model
    sandbox: str = "bwrap"  # SANDBOX: what isolates the code of tir
    solutions: str = "tir"  # SOLUTIONS: the mode whose solutions genselect compares


@dataclass(frozen=True)
class EvalRequest:
    """Which models answer which problems. `of` makes one from a user's words and checks it."""

    run: recipe.Run  # whose recipe has the prompts
    problems: ProblemSet
    modes: tuple[str, ...]
    sampling: Sampling
    models: dict[str, Path]  # folders: the run's own as before and after, or any other as alone
    means: Means = Means()

    @classmethod
    def of(
        cls,
        run: recipe.Run,
        workspace: Workspace,
        *,
        mode: str | None = None,
        benchmark: str | None = None,
        problems: Path | None = None,
        before: bool = False,
        folder: Path | None = None,
        means: Means = Means(),
        **sampling: int | float | None,
    ) -> "EvalRequest":
        """A user's words as a request, with fields of Sampling. A RequestError says what cannot be."""
        asked = benchmarks.load(run, benchmark, problems, workspace.benchmarks)
        models = {"alone": folder} if folder else models_of(run, workspace.run(run), before)
        modes = recipe.asked_modes(mode, run.model.corpus)
        return cls(run, asked, modes, sampling_of(run, **sampling), models, means)

    @property
    def of_the_run(self) -> bool:
        """Whether the models are the run's own: then the result is written to its eval.json."""
        return "after" in self.models

    def told(self) -> list[str]:
        """What would be asked, in lines for a person."""
        asked, drawn = self.problems, self.sampling
        count = len(asked.problems) * drawn.samples
        return [
            f"{asked.source}: {len(asked.problems):,} problems, {drawn.samples} samples of each, temperature"
            f" {drawn.temperature:g}, top_p {drawn.top_p:g}, up to {drawn.max_tokens:,} tokens",
            f"{', '.join(self.modes)}: {count * len(self.modes) * len(self.models):,} answers",
            *(f"{when:8}{path}" for when, path in self.models.items()),
        ]


def sampling_of(run: recipe.Run, **given: int | float | None) -> Sampling:
    """The sampling of a run's evaluation: the recipe's, with what a user gave."""
    evaluation = recipe.of_model(run.model).evaluation
    names = [field.name for field in dataclasses.fields(Sampling)]
    defaults = Sampling(**{name: getattr(evaluation, name) for name in names})
    asked = dataclasses.replace(defaults, **{name: v for name, v in given.items() if v is not None})
    if asked.temperature == 0 and asked.samples > 1:
        if given.get("samples"):
            raise RequestError(
                f"SAMPLES={asked.samples} of TEMPERATURE=0 are the same answer each time; leave SAMPLES out"
            )
        asked = dataclasses.replace(asked, samples=1)
    return asked


def models_of(run: recipe.Run, folder: RunFolder, before: bool) -> dict[str, Path]:
    """The model that a run ended with, and with `before` the one it started from.

    A RequestError if the run has not ended.
    """
    if manifest.read(folder.final) is None:
        words = recipe.run_words(run)
        raise RequestError(f"{folder.final}: is not finished; run make train {words} first")
    start = {"before": frozen.base_path(folder)} if before else {}
    return {**start, "after": folder.final}
