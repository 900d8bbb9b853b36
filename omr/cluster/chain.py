"""A run -> the chain of Slurm jobs that trains it, converts, averages and evaluates. Values in, values out.

    prepare ─ok─> train 1 ─any─> train 2 … ─any─> convert (array) ─ok─> average ─ok─> validate, eval

A training job is a link of the chain. Links follow each other whatever happened to the one before (afterany):
each checks for itself whether it can go on. The link that finishes the training cancels the surplus ones, and
convert starts by checking that the training is complete. `validate` is there where rows of the data are held
out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from omr import recipe
from omr.cluster.evaluation.jobs import Evaluation
from omr.cluster.jobs import STAGE_SCRIPT, Dependency, Job, Site, job_name, log_pattern
from omr.errors import RequestError
from omr.workspace import RunFolder


@dataclass(frozen=True)
class Chain:
    """What the chain of one run consists of; `jobs` makes it."""

    run: recipe.Run
    folder: RunFolder
    site: Site
    engine: str
    links: int  # NUM_TRAINING_JOBS
    evaluation: Evaluation | None = None  # of final/, at the end
    validate: bool = False  # rows of its data are held out
    prepare: bool = False  # the data has to be brought into NeMo-RL's form first
    trained: bool = False  # complete already: no link, which would queue for all its nodes to find that out
    after: tuple[Dependency, ...] = ()  # what the first job waits for

    def jobs(self) -> list[Job]:
        """The jobs in submission order; a RequestError for no links at all."""
        if self.links < 1:
            raise RequestError(f"NUM_TRAINING_JOBS={self.links} trains nothing; set 1 or more")
        listed: list[Job] = []
        if not self.trained:
            listed += self._prepare_jobs()
            listed += self._link_jobs((Dependency("afterok", "prepare"),) if listed else self.after)
        listed.append(self._convert_job((Dependency("afterany", listed[-1].key),) if listed else self.after))
        listed.append(self._average_job())
        listed += [self._validate_job()] if self.validate else []
        if self.evaluation:
            site = replace(self.site, settings=self._common)
            listed += self.evaluation.jobs(self.run, self.folder, site, (Dependency("afterok", "average"),))
        return listed

    def _prepare_jobs(self) -> list[Job]:
        """The training data in NeMo-RL's form, made once by a CPU job; none where it is there."""
        if not self.prepare:
            return []
        options = [*self.site.placement(gpu=False), "--nodes=1", "--requeue", *self.site.cores()]
        env = {"STAGE_TIER": "data", "STAGE_SCRIPT": "bin/prepare.py"}
        return [self._job("prepare", STAGE_SCRIPT, options, self.after, **env)]

    def _link_jobs(self, first: tuple[Dependency, ...]) -> list[Job]:
        """The training jobs, one after another; `first` is what the first of them waits for.

        What has to end well before the first link is a condition of every link.
        """
        site, conditions = self.site, tuple(need for need in first if need.kind == "afterok")
        options = [*site.placement(gpu=True), f"--nodes={site.nodes}", "--ntasks-per-node=1"]
        options += ["--requeue", "--signal=B:USR2@60"]
        options += site.whole_node()
        env = {"GPUS": str(site.gpus), "NODES": str(site.nodes), "LINKS": str(self.links)}
        listed, after = [], first
        for number in range(1, self.links + 1):
            key = f"train-{number}"
            listed.append(self._job(key, "slurm/train.sbatch", options, after, **env, LINK=str(number)))
            after = (*conditions, Dependency("afterany", key))
        return listed

    def _convert_job(self, after: tuple[Dependency, ...]) -> Job:
        """An array with a task for each averaged checkpoint; NeMo-RL's own converter needs a GPU."""
        steps = self.run.schedule.averaged
        gpu = ["--gpus-per-node=1"] if self.site.gpus and self.engine == "nemo-rl" else []
        options = [*self.site.placement(gpu=True), "--nodes=1", f"--array=0-{len(steps) - 1}"]
        options += ["--requeue", *gpu]
        env = {"CONVERT_STEPS": " ".join(map(str, steps)), "GPUS": str(len(gpu))}
        return self._job("convert", "slurm/convert.sbatch", options, after, **env)

    def _average_job(self) -> Job:
        """The mean of the converted checkpoints as final/, by a CPU job."""
        options = [*self.site.placement(gpu=False), "--nodes=1", "--requeue"]
        env = {"STAGE_TIER": "data", "STAGE_SCRIPT": "bin/average.py"}
        return self._job("average", STAGE_SCRIPT, options, (Dependency("afterok", "convert"),), **env)

    def _validate_job(self) -> Job:
        """The loss of final/ and its parts on the held-out rows, on a node's GPUs if the model has some."""
        gpus = self.site.gpus if self.run.model.gpus else 0
        env = {"STAGE_TIER": "train", "STAGE_SCRIPT": "bin/validate.py", "GPUS": str(gpus)}
        after = (Dependency("afterok", "average"),)
        return self._job("validate", STAGE_SCRIPT, self.site.on_one_node(gpus), after, **env)

    @property
    def _common(self) -> Mapping[str, str]:
        """The environment that all jobs get."""
        named = {"ENGINE": self.engine, "RUN_DIR": str(self.folder.root), "RUNNER": "slurm", "GPUS": "0"}
        return {**self.site.settings, **named}

    def _job(
        self, key: str, script: str, options: list[str], after: tuple[Dependency, ...], **env: str
    ) -> Job:
        """A job of this run; `env` is what this job gets beside what all of them get."""
        return Job(
            key,
            job_name(self.run, "" if key.startswith("train-") else key),
            script,
            tuple(options),
            {**self._common, **env},
            after,
            log_pattern(self.folder.logs, array=key == "convert"),
            str(self.folder.root),
        )
