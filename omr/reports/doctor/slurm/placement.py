"""The jobs that a request would be on Slurm, and what each kind of them asks a partition for."""

from dataclasses import dataclass

from omr import recipe, settings
from omr.cluster import job_environment, stages, train
from omr.cluster.evaluation import submission
from omr.cluster.evaluation.jobs import Evaluation
from omr.cluster.jobs import Job
from omr.cluster.stages import Stage
from omr.cluster.submit import Submission
from omr.reports.doctor.request import StageRequest


@dataclass(frozen=True)
class Placement:
    """Jobs of one kind: where they go, and how large each is."""

    setting: str  # that names their partition: PARTITION, CPU_PARTITION
    partitions: tuple[str, ...]  # empty: Slurm's default
    nodes: int
    gpus: int  # of a node
    plain: bool = False  # CPU stages, whose nodes need nothing


def of(request: StageRequest) -> list[Placement]:
    """What the request's jobs ask for: those on GPUs, those on CPUs."""
    found = []
    if request.train and (request.trains_a_model or request.evaluates):
        size = request.train
        found.append(
            Placement(
                "PARTITION",
                _names(settings.get("PARTITION")),
                size.job_nodes if request.trains_a_model else 1,
                size.job_gpus if request.trains_a_model or request.run.model.gpus else 0,
            )
        )
    if request.target not in ("train", "eval") or (request.train and request.train.engine == "nemo-rl"):
        setting = "CPU_PARTITION" if settings.get("CPU_PARTITION") else "PARTITION"
        found.append(Placement(setting, _names(settings.get(setting)), 1, 0, plain=True))
    return found


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def jobs(request: StageRequest) -> list[Job]:
    """The jobs that would be submitted; an OmrError for what they cannot be made from."""
    workspace, evaluate = request.workspace, request.evaluates
    if request.target in ("train", "pipeline"):
        how = Submission(request.links, evaluate)
        graphs = [train.job_graph(each, workspace, how) for each in request.trains]
        return [job for graph in graphs for job in graph.jobs]
    if request.target == "eval":
        run = request.run
        return list(submission.job_graph(run, workspace, Evaluation.of_settings(run), request.train).jobs)
    logs = workspace.root / "logs"
    stage = Stage(request.target, request.tier, f"bin/{request.target}.py", logs, "doctor")
    return stages.data_jobs(
        stage,
        job_environment.site(workspace),
        (settings.number("SHARDS") or 1) if request.target == "data" else 1,
    )


def count(listed: list[Job]) -> int:
    """How many jobs Slurm counts: each task of an array is one."""
    tasks = 0
    for job in listed:
        array = next((o.partition("=0-")[2] for o in job.options if o.startswith("--array=0-")), "0")
        tasks += int(array) + 1
    return tasks


def kinds(listed: list[Job]) -> list[Job]:
    """One job of each kind that Slurm would judge alike: those with the same options."""
    first: dict[tuple[str, ...], Job] = {}
    for job in listed:
        first.setdefault(job.options, job)
    return list(first.values())


def hours_needed(run: recipe.Run) -> str:
    """A time limit that is worth asking for."""
    return "4:00:00" if run.model.gpus else "1:00:00"
