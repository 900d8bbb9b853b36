"""A Slurm job as this toolkit submits it: what it runs, where, with which environment, after which jobs.

Values only: nothing here asks Slurm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from omr import recipe
from omr.settings import ROOT

STAGE_SCRIPT = "slurm/stage.sbatch"  # runs any script of bin/ as a job


@dataclass(frozen=True)
class Site:
    """Where the jobs of this cluster go and how large a training job is, as the settings say."""

    nodes: int  # of a training job
    gpus: int  # of each of its nodes; 0 for none
    account: str | None = None
    partition: str | None = None  # of training jobs
    cpu_partition: str | None = None  # of CPU stages; None: the same
    qos: str | None = None
    time: str | None = None  # limit of a job, as Slurm writes it
    settings: Mapping[str, str] = field(default_factory=dict)  # every job gets these variables

    def placement(self, gpu: bool) -> list[str]:
        """sbatch's options for where a job goes: `gpu` for the partition of training jobs."""
        partition = self.partition if gpu else self.cpu_partition or self.partition
        named = {
            "account": self.account,
            "partition": partition,
            "qos": self.qos,
            "time": self.time,
        }
        return [f"--{option}={value}" for option, value in named.items() if value]

    def cores(self) -> list[str]:
        """sbatch's option for the cores of a CPU stage: WORKERS, without which Slurm gives one."""
        workers = self.settings.get("WORKERS")
        return [f"--cpus-per-task={workers}"] if workers else []

    def whole_node(self) -> list[str]:
        """sbatch's options for all of a node's GPUs.

        And its memory too, which --exclusive alone does not ask for. None where the site has no GPUs.
        """
        return [f"--gpus-per-node={self.gpus}", "--exclusive", "--mem=0"] if self.gpus else []

    def on_one_node(self, gpus: int, tasks: int = 0) -> list[str]:
        """sbatch's options for a job on so many GPUs of a node; with `tasks` for an array of so many."""
        options = [*self.placement(gpu=gpus > 0), "--nodes=1", "--requeue"]
        if gpus and gpus == self.gpus:
            options += self.whole_node()
        else:
            options += [f"--gpus-per-node={gpus}"] if gpus else []
            options += self.cores()
        return options + ([f"--array=0-{tasks - 1}"] if tasks else [])


class Dependency(NamedTuple):
    """What a job waits for."""

    kind: str  # afterok: it ended well; afterany: it ended
    key: str  # of another job of the graph, or the Slurm id of a job submitted before


@dataclass(frozen=True)
class Job:
    """One job of a graph."""

    key: str  # names it within the graph
    name: str  # as squeue shows it
    script: str  # below slurm/, seen from the repository
    options: tuple[str, ...] = ()  # of sbatch
    env: Mapping[str, str] = field(default_factory=dict)
    after: tuple[Dependency, ...] = ()
    log: Path | None = None  # sbatch's pattern for its output
    comment: str = ""  # the jobs of one run, or of one stage, are found by it
    args: tuple[str, ...] = ()  # of the script

    @property
    def root(self) -> Path:
        """The folder of the toolkit that it runs: the copy that a run keeps, else this checkout."""
        return Path(self.env.get("OMR_ROOT") or ROOT)

    def sbatch_command(self, ids: Mapping[str, str]) -> list[str]:
        """The command that submits it; `ids` are the Slurm ids of the graph's earlier jobs, by key.

        A job is held until the whole graph is submitted and written down; see omr/cluster/submit.py.
        """
        command = [
            *("sbatch", "--parsable", "--hold"),
            "--export=ALL",  # some sites have jobs start with an empty environment
            f"--job-name={self.name}",
            f"--comment={self.comment}",
            *("--kill-on-invalid-dep=yes", "--open-mode=append"),
            f"--output={self.log}",
            f"--chdir={self.root}",
            *self.options,
        ]
        if self.after:
            waits = (f"{kind}:{ids.get(key, key)}" for kind, key in self.after)
            command.append("--dependency=" + ",".join(waits))
        return [*command, str(self.root / self.script), *self.args]


def job_name(run: recipe.Run, stage: str = "") -> str:
    """What squeue shows: `omr-7b-round1` for every link of a run, the stage behind it for its other jobs."""
    return "-".join(filter(None, ("omr", run.model.folder, run.key, stage)))


def log_pattern(logs: Path, array: bool) -> Path:
    """sbatch's pattern for the file of a job's output: name and id, for a task of an array its number too."""
    return logs / ("%x-%A_%a.log" if array else "%x-%j.log")


def picture(jobs: Sequence[Job]) -> str:
    """The graph as text: one line of arrows, then what each job waits for and asks for."""
    arrows = {"afterok": "─ok→", "afterany": "─any→"}
    line = jobs[0].key
    for before, job in pairwise(jobs):
        # Of several dependencies the last within this graph is the one that the arrow shows.
        need = next((n for n in reversed(job.after) if not n.key.isdigit()), Dependency("afterok", ""))
        line += f", {job.key}" if need in before.after else f" {arrows[need.kind]} {job.key}"
    width = max(len(job.key) for job in jobs)
    rows = []
    for job in jobs:
        waits = " and ".join(f"{kind} {key}" for kind, key in job.after) or "at once"
        size = ("--nodes", "--gpus", "--array", "--time", "--partition")
        asks = " ".join(option for option in job.options if option.startswith(size))
        rows.append(f"  {job.key:<{width}}  {waits:<34}  {asks}".rstrip())
    return "\n".join([line, "", *rows])
