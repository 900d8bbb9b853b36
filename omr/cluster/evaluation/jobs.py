"""An evaluation on Slurm: one job that does it all, or with SHARDS arrays that ask and a job that counts.

    eval-answers (array: cot, tir) ─ok→ eval-genselect (array) ─ok→ eval

Every task of an array has a server of its own, and asks for the samples that are its part. GenSelect compares
the solutions of all parts, so it begins when these are there. `eval` finds every answer, and counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from omr import recipe, settings
from omr.cluster.jobs import STAGE_SCRIPT, Dependency, Job, Site, job_name, log_pattern
from omr.workspace import RunFolder

SCRIPT = "bin/eval.py"


@dataclass(frozen=True)
class Evaluation:
    """What is asked of a run's final model; the other words reach the jobs by their environment."""

    modes: tuple[str, ...] = ("cot",)
    shards: int = 1  # tasks that share out the samples
    server: bool = False  # SERVER names one that runs already: then no job needs a GPU
    words: Mapping[str, str] = field(default_factory=dict)  # settings, beside those that every job gets
    args: tuple[str, ...] = ()  # of the script

    @classmethod
    def of_settings(cls, run: recipe.Run) -> "Evaluation":
        """By MODE, SHARDS and SERVER, for an evaluation at the end of a run's chain."""
        shards, modes = (
            settings.number("SHARDS") or 1,
            recipe.asked_modes(settings.get("MODE"), run.model.corpus),
        )
        return cls(modes, shards, settings.get("SERVER") is not None)

    def jobs(
        self, run: recipe.Run, folder: RunFolder, site: Site, after: tuple[Dependency, ...] = ()
    ) -> list[Job]:
        """The jobs in submission order; the first waits for `after`."""
        gpus = site.gpus if run.model.gpus and not self.server else 0

        def job(key: str, asked: tuple[str, ...], tasks: int = 0, gpus: int = gpus) -> Job:
            parts = {"STAGE_PARTS": str(tasks)} if tasks else {}
            needs = {"RUNNER": "slurm", "RUN_DIR": str(folder.root), "GPUS": str(gpus)}
            stage = {"STAGE_TIER": "train", "STAGE_SCRIPT": SCRIPT, "MODE": ",".join(asked)}
            return Job(
                key,
                job_name(run, key),
                STAGE_SCRIPT,
                tuple(site.on_one_node(gpus, tasks)),
                {**site.settings, **self.words, **needs, **stage, **parts},
                after,
                log_pattern(folder.logs, array=tasks > 0),
                str(folder.root),
                self.args,
            )

        if self.shards < 2:
            return [job("eval", self.modes)]
        solutions = tuple(mode for mode in self.modes if mode != "genselect")
        judgments = tuple(mode for mode in self.modes if mode == "genselect")
        listed = []
        for key, asked in (("eval-answers", solutions), ("eval-genselect", judgments)):
            if asked:
                listed.append(job(key, asked, self.shards))
                after = (Dependency("afterok", key),)
        # Which server answered is part of an evaluation's name, and is told by what a node has: one without a
        # GPU would look for the answers of another server.
        return [*listed, job("eval", self.modes, gpus=min(gpus, 1))]
