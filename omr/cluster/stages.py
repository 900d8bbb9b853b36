"""A plain stage as Slurm jobs: `make data` and `make model` with RUNNER=slurm, and `make sqsh`.

docker/run calls `python -m omr.cluster.stages TIER SCRIPT [ARG…]` for a stage; the settings are in the
environment.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from omr import files, recipe, settings
from omr.cluster import job_environment, slurm, submit
from omr.cluster.jobs import STAGE_SCRIPT, Dependency, Job, Site, log_pattern
from omr.cluster.submit import JobGraph, Say
from omr.errors import OmrError, RequestError
from omr.training import preflight
from omr.workspace import Workspace

TALKING = ("serve", "ask")  # stages whose user sits before them
ON_GPUS = ("validate",)  # stages that compute with a model


@dataclass(frozen=True)
class Stage:
    """A script of bin/ that runs as a job."""

    key: str
    tier: str  # the environment that it needs
    script: str  # bin/….py
    logs: Path  # folder of its log
    comment: str
    args: tuple[str, ...] = ()
    after: tuple[Dependency, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)  # beside those that every job gets
    gpus: int = 0  # of its node


def stage_job(stage: Stage, site: Site, tasks: int = 0) -> Job:
    """The stage as one job; with `tasks` as an array of so many."""
    needs = {
        "GPUS": str(stage.gpus),
        "RUNNER": "slurm",
        "STAGE_TIER": stage.tier,
        "STAGE_SCRIPT": stage.script,
    }
    return Job(
        stage.key,
        f"omr-{stage.key}",
        STAGE_SCRIPT,
        tuple(site.on_one_node(stage.gpus, tasks)),
        {**site.settings, **stage.settings, **needs},
        stage.after,
        log_pattern(stage.logs, array=tasks > 0),
        stage.comment,
        stage.args,
    )


def data_jobs(data: Stage, site: Site, shards: int) -> list[Job]:
    """The data stage: one job, or with `shards` one that plans, an array that formats, and one that mixes.

    The plan's work folder is the same whoever formats, so the bytes are those of one machine.
    """
    if shards < 2:
        return [stage_job(data, site)]
    plan = replace(data, key=f"{data.key}-plan", args=(*data.args, "--part", "plan"))
    formatting = replace(
        data,
        key=f"{data.key}-format",
        after=(Dependency("afterok", plan.key),),
        settings={**data.settings, "STAGE_PARTS": str(shards)},
    )
    mix = replace(data, after=(Dependency("afterok", formatting.key),))
    return [stage_job(plan, site), stage_job(formatting, site, tasks=shards), stage_job(mix, site)]


def submit_stage(tier: str, script: str, args: Sequence[str], say: Say) -> None:
    """Submit one stage: what `make data RUNNER=slurm` does."""
    name = Path(script).stem
    if name in TALKING:
        raise RequestError(
            f"make {name} RUNNER=slurm: a job has no terminal; run it with RUNNER=host on a node that has the"
            " GPUs (srun --pty), or with RUNNER=docker"
        )
    slurm.need()
    preflight.secrets_file()
    workspace = Workspace(Path(settings.get("WORKSPACE") or "").expanduser().absolute())
    site, logs = job_environment.site(workspace), workspace.root / "logs"
    record = logs / f"{name}.jobs.json"
    stage = Stage(
        *(name, tier, script, logs, str(record)),
        args=tuple(args),
        settings={**job_environment.settings_of_run(), **({"FORCE": "1"} if settings.on("FORCE") else {})},
        gpus=_gpus() if name in ON_GPUS else 0,
    )
    job_environment.make_node_environments("")
    shards = settings.number("SHARDS") if name == "data" else 1
    jobs = data_jobs(stage, site, shards)
    ids = _submit_alone(JobGraph(jobs, record), say)
    shown = ", ".join(f"{key} {number}" for key, number in ids.items())
    say(f"{name}: submitted as {shown}; squeue shows it, its log is in {logs}")


def _gpus() -> int:
    """GPUS, or as many as the recipe trains MODEL on in a node."""
    given, model = settings.number("GPUS"), settings.get("MODEL")
    return given if given is not None else recipe.model(model).gpus if model else 0


def _submit_alone(graph: JobGraph, say: Say, refuse_second: bool = False) -> dict[str, str]:
    """Submit a graph that belongs to no run, unless another process is about to write the same record.

    With `refuse_second` a RequestError where live jobs have the same comment.
    """
    comment = graph.jobs[0].comment
    with files.lock(graph.record.with_suffix(".lock"), f"the submission of {graph.jobs[-1].key}"):
        submit.cancel_interrupted(comment, [graph.record], say)
        if refuse_second:
            slurm.refuse_second(comment, comment)
        return submit.submit(graph)


def enroot_source(image: str) -> str:
    """The name by which enroot finds an image: in a registry where it names one, else in the local engine."""
    registry, slash, name = image.partition("/")
    if slash and ("." in registry or ":" in registry):
        return f"docker://{registry}#{name}"
    return f"docker://{image}" if slash else f"dockerd://{image}"


def submit_image_import(
    workspace: Workspace, image: str, target: Path, say: Say, dry_run: bool = False
) -> None:
    """Submit the import of an image to `target`, a .sqsh file on the shared file system: `make sqsh`."""
    site, logs, source = job_environment.site(workspace), workspace.root / "logs", enroot_source(image)
    job = Job(
        "sqsh",
        "omr-sqsh",
        "slurm/sqsh.sbatch",
        (*site.placement(gpu=False), "--nodes=1", "--requeue"),
        {**site.settings, "SQSH_SOURCE": source, "SQSH_TARGET": str(target), "CONTAINER": ""},
        log=log_pattern(logs, array=False),
        comment=str(target),
    )
    graph = JobGraph([job], logs / "sqsh.jobs.json")
    if dry_run:
        submit.show(graph, say)
        return
    slurm.need()
    preflight.secrets_file()
    ids = _submit_alone(graph, say, refuse_second=True)
    say(f"{source} is imported to {target} by job {ids['sqsh']}; its log is in {logs}")


def _main() -> int:
    try:
        settings.load()
        tier, script, *args = sys.argv[1:]
        submit_stage(tier, script, args, print)
    except OmrError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(_main())
