"""What a training is asked with: checked once, at the door, and handed whole from there on."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from omr import recipe
from omr.errors import RequestError, choose
from omr.settings import SETTINGS

ENGINES = SETTINGS["ENGINE"].choices


@dataclass(frozen=True)
class TrainRequest:
    """A run of the recipe and how it is to be trained. `of` makes one from a user's words and checks it.

    The run names model, round, variant, edition, STEPS and NAME. What of the rest changes the result has no
    place in a path of its own, so it needs a NAME. `nodes` and `gpus` are the size of a training job: they
    change nothing that is learned, because the batch counts rows. Nor does `recovery`: such a save is none
    that is averaged.
    """

    run: recipe.Run
    engine: str  # one of ENGINES
    modes: tuple[str, ...]  # splits of the corpus
    limit: int | None = None  # at most so many rows of the SFT file
    overrides: str | None = None  # NeMo-RL's keys: a.b=c d.e=f
    nodes: int | None = None  # None: the recipe's
    gpus: int | None = None  # of a node; None: the recipe's (on one machine: all that it has)
    recovery: int | None = None  # steps from one save to the next that is kept until two newer ones are there

    @classmethod
    def of(
        cls, run: recipe.Run, *, engine: str | None = None, modes: str | None = None, **more: str | int | None
    ) -> "TrainRequest":
        """A user's words as a request; `more` are the other fields. A RequestError says what cannot be.

        Only words that were typed are refused: an ENGINE that is the recipe row's own needs no NAME.
        """
        request = cls(
            run,
            choose("ENGINE", engine or run.model.engine, ENGINES),
            recipe.modes(modes, run.model.corpus),
            **more,
        )
        changing = {
            "LIMIT": request.limit,
            "MODES": modes if request.modes != recipe.modes(None, run.model.corpus) else None,
            "ENGINE": engine if request.engine != run.model.engine else None,
            "OVERRIDES": request.overrides,
        }
        for word, value in changing.items():
            if value and not run.name:
                raise RequestError(
                    f"{word}={value} makes another run than the recipe's; add NAME=… to set it apart"
                )
        period = run.schedule.save_period
        if request.recovery and request.engine == "nemo-rl" and period % request.recovery:
            near = max(steps for steps in range(1, request.recovery + 1) if period % steps == 0)
            raise RequestError(
                f"RECOVERY={request.recovery} never meets the saves every {period:,} steps, which NeMo-RL"
                f" makes by the same period; set a divisor of that, like RECOVERY={near}"
            )
        if request.recovery and "checkpointing.save_period" in (request.overrides or ""):
            raise RequestError(
                "RECOVERY and OVERRIDES checkpointing.save_period both say when NeMo-RL saves, which has one"
                " period; leave one of them out"
            )
        if request.overrides and request.engine == "trl":
            raise RequestError(
                "OVERRIDES are keys of NeMo-RL, and ENGINE=trl reads none; leave them out, or train with"
                " nemo-rl"
            )
        return request

    @property
    def job_nodes(self) -> int:
        """Nodes of a training job."""
        return self.nodes or self.run.model.nodes

    @property
    def job_gpus(self) -> int:
        """GPUs of each of its nodes; 0 for none."""
        return self.run.model.gpus if self.gpus is None else self.gpus

    def words(self) -> Mapping[str, str]:
        """The settings by which another process is asked for the same run: `of` reads them again.

        ENGINE, NODES and GPUS are left out: a job is told its own.
        """
        run = self.run
        published = recipe.run(run.model.name, run.round.number, run.round.variant).schedule
        named = {
            "RECIPE": os.environ.get("RECIPE"),
            "MODEL": run.model.name,
            "ROUND": str(run.round.number),
            "VARIANT": run.round.variant,
            "EDITION": run.edition,
            "NAME": run.name,
            "STEPS": None if run.schedule == published else str(run.schedule.steps),
            "LIMIT": self.limit and str(self.limit),
            "MODES": ",".join(self.modes),
            "OVERRIDES": self.overrides,
            "RECOVERY": self.recovery and str(self.recovery),
        }
        return {name: value for name, value in named.items() if value}
