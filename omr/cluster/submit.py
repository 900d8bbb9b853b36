"""A graph of jobs goes to Slurm: refused while an earlier one lives, whole or not at all, written down."""

import os
import secrets
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from omr import files, manifest, recipe, settings
from omr.cluster import chain, job_environment, slurm
from omr.cluster.chain import Job
from omr.errors import OmrError, RequestError, choose
from omr.request import TrainRequest
from omr.run import frozen
from omr.run.chain_state import ChainState, Submitted, SubmittedJob
from omr.run.checkpoints import Checkpoints
from omr.run.events import log_event
from omr.training import preflight, stage
from omr.training.nemo_rl import engine_file
from omr.training.nemo_rl.engine_file import EngineFile
from omr.workspace import RunFolder, Workspace

Say = Callable[[str], None]


@dataclass(frozen=True)
class Submission:
    """How a training is submitted."""

    links: int  # of the chain: NUM_TRAINING_JOBS
    evaluate: bool = False  # one more job at the chain's end
    launcher: str = "sbatch"  # or ns
    dry_run: bool = False  # say what would be submitted and written


def plan(
    request: TrainRequest,
    workspace: Workspace,
    how: Submission,
    after: tuple[tuple[str, str], ...] = (),
) -> list[Job]:
    """The jobs that would bring this run to its end now; `after` is what the first of them waits for."""
    run, engine, folder = request.run, request.engine, workspace.run(request.run)
    saved = Checkpoints(folder, engine)
    trained = folder.run_json.exists() and saved.complete(run, saved.whole())
    return chain.training(
        run,
        folder,
        job_environment.site(workspace, request),
        engine=engine,
        links=how.links,
        evaluate=how.evaluate,
        prepare=engine == "nemo-rl" and not trained and not job_environment.prepared(request, workspace),
        trained=trained,
        after=after,
    )


def engine_file_of(request: TrainRequest, workspace: Workspace, **inputs: Path) -> EngineFile | None:
    """What the jobs' engine reads; None for the one-box engine, which writes its own.

    `inputs` are `base` and `data` where they are still to be made.
    """
    if request.engine != "nemo-rl":
        return None
    return engine_file.of(request, workspace, secrets=job_environment.kept_secrets(), **inputs)


def ready(run: recipe.Run, evaluate: bool, say: Say) -> None:
    """What is wrong before anything is written or submitted; a RequestError, or a note for `say`."""
    slurm.need()
    preflight.secrets_file()
    preflight.image(settings.get("CONTAINER"))
    margin, limit = settings.get("MARGIN"), slurm.limit(settings.get("TIME"))
    if margin and margin.isdigit() and limit and int(margin) >= limit:
        raise RequestError(
            f"MARGIN={margin} leaves nothing of TIME={settings.get('TIME')} to train in; set fewer seconds,"
            " or leave it out to have it learned"
        )
    if evaluate:
        problems(run)
    for name in job_environment.exported_secrets():
        say(f"note: {name} is set here but not in {settings.env_file()}, where jobs read secrets from")


def problems(run: recipe.Run) -> None:
    """A RequestError where an evaluation at the end of the chain would have nothing to ask."""
    file = settings.get("PROBLEMS")
    if file is None and run.model.corpus != "tiny":
        raise RequestError(
            f"EVAL=1: {run.model.name} has no held-out problems of its own; set PROBLEMS=… to a file of them"
        )
    if file and not Path(file).is_absolute():
        raise RequestError(f"PROBLEMS={file}: a job stands in another folder; give the whole path")
    if file and not Path(file).exists():
        raise RequestError(f"PROBLEMS={file} is not there; correct it or leave EVAL out")


def train(request: TrainRequest, workspace: Workspace, how: Submission, say: Say) -> None:
    """Submit the chain of a run, or say exactly what would be submitted and written."""
    run, folder = request.run, workspace.run(request.run)
    file = engine_file_of(request, workspace)
    jobs = plan(request, workspace, how)
    if how.dry_run:
        size = f"{request.job_nodes} nodes of {request.job_gpus} GPUs"
        say(f"{run.title}: {run.schedule.steps:,} steps of {run.model.batch:,} rows on {size}")
        try:
            wanted = frozen.inputs(request, workspace)
            if file:
                engine_file.check(file, wanted)
        except RequestError as lack:
            say(f"lacks: {lack}")
        say("")
        show(jobs, file, say)
        return
    ready(run, how.evaluate, say)
    wanted = frozen.inputs(request, workspace)
    if file:
        engine_file.check(file, wanted)
    folder.root.mkdir(parents=True, exist_ok=True)
    with files.lock(folder.root / ".submit.lock", f"the chain of {run.title}"):
        slurm.refuse_second(folder.root, run.title)
        frozen.freeze(folder, wanted)
        know_data(folder, wanted.data.path)
        if file:
            files.write_text(file.path, file.text)
        environments(request.engine)
        folder.logs.mkdir(exist_ok=True)
        ids = submit(jobs, folder.jobs_json, run, folder)
    say(f"{run.title}: submitted as {', '.join(f'{key} {i}' for key, i in ids.items())}")
    say(f"make status MODEL={run.model.name} ROUND={run.round.number} watches it; logs are in {folder.logs}")


def clear(run: recipe.Run, folder: RunFolder) -> None:
    """FORCE=1 for a chain of jobs: what the run has is taken back, but not from under a chain that lives."""
    slurm.need()
    slurm.refuse_second(folder.root, run.title)
    stage.clear(folder)


def know_data(folder: RunFolder, data: Path) -> None:
    """Write down what the training data looks like, for the links to compare.

    What an earlier submission wrote down stands: a file that changed since does not become right by asking
    again, and a link takes the whole hash of one that was touched.
    """
    state = ChainState.load(folder)
    if state.data is None and (seen := manifest.untouched(data)):
        state.data = seen
        state.save(folder)


def dispatch(request: TrainRequest, workspace: Workspace, how: Submission, say: Say) -> None:
    """`make train` with RUNNER=slurm: nothing for a finished run, else its chain by the launcher."""
    from omr.cluster import ns

    launcher = choose("LAUNCHER", how.launcher, ("sbatch", "ns"))
    run, folder = request.run, workspace.run(request.run)
    if manifest.read(folder.final) is not None:
        say(f"{run.title} is finished: {folder.final}")
    elif launcher == "ns":
        for word, value in (("LIMIT", request.limit), ("EVAL", how.evaluate)):
            if value:
                raise RequestError(
                    f"{word}: LAUNCHER=ns knows no such thing; leave it out, or use LAUNCHER=sbatch"
                )
        argv = ns.argv(request, workspace, how.links)
        if not how.dry_run:
            ns.ready(request, workspace)
        ns.submit(run, workspace, argv, say, how.dry_run)
    else:
        if ns.begun(folder) and not how.dry_run:
            raise RequestError(
                f"{folder.root} was begun with LAUNCHER=ns, whose jobs know nothing of ours; go on with that,"
                " or set NAME=… for a run of its own"
            )
        train(request, workspace, how, say)


def environments(engine: str) -> None:
    """Make the nodes' environment now, on the login node: compute nodes may have no network."""
    if settings.get("CONTAINER"):
        from omr.containers.mounts import paths

        for name in ("WORKSPACE", "HF_HOME"):
            Path(paths(os.environ)[name]).mkdir(parents=True, exist_ok=True)
        return
    for tier in ("train", "data") if engine == "trl" else ("data",):
        done = subprocess.run([settings.ROOT / "docker" / "venv", tier])
        if done.returncode:
            raise OmrError(f"the {tier} environment could not be made (see above)")


def submit(
    jobs: Sequence[Job], jobs_json: Path, run: recipe.Run | None = None, folder: RunFolder | None = None
) -> dict[str, str]:
    """Submit a graph in order and write it down; if one is refused, those before it are cancelled.

    `run` and `folder` are those of a training.
    """
    ids: dict[str, str] = {}
    try:
        for job in jobs:
            if job.output:
                job.output.parent.mkdir(parents=True, exist_ok=True)
            ids[job.key] = slurm.sbatch(job.argv(ids), job_environment.environment(job))
    except (OmrError, KeyboardInterrupt) as error:
        slurm.cancel(ids.values())
        undone = f"; the {len(ids)} jobs before it were cancelled" if ids else ""
        raise OmrError(f"submitting {jobs[len(ids)].key}: {error}{undone}") from None
    before = Submitted.load(jobs_json)
    submitted = Submitted(
        secrets.token_hex(4),
        f"{datetime.now():%Y-%m-%d %H:%M:%S}",
        tuple(SubmittedJob(job.key, ids[job.key], job.name, job.after, str(job.output)) for job in jobs),
        manifest.command(),
        run,
        (*before.earlier, before) if before.chain else (),
    )
    submitted.save(jobs_json)
    if folder:
        log_event(folder, f"chain {submitted.chain} submitted: jobs {', '.join(ids.values())}")
    return ids


def show(jobs: Sequence[Job], file: EngineFile | None, say: Say) -> None:
    """Every command and file, as it would be; ids that Slurm gives are `<key>`, and secrets are names."""
    say(chain.picture(list(jobs)))
    ids = {job.key: f"<{job.key}>" for job in jobs}
    shared = dict(set.intersection(*({*job.env.items()} for job in jobs)))
    say("\nevery job gets")
    for name in sorted(shared):
        say(f"  {name}={shlex.quote(str(shared[name]))}")
    for job in jobs:
        own = [
            f"{name}={shlex.quote(str(value))}"
            for name, value in sorted(job.env.items())
            if name not in shared
        ]
        say("\n" + " ".join([*own, shlex.join(job.argv(ids))]))
    if file:
        say(f"\n{file.path}:\n{file.text}")


def submit_stage(tier: str, script: str, args: Sequence[str], say: Say) -> None:
    """Submit one stage as a job: what `make data RUNNER=slurm` does. The words are in the environment."""
    slurm.need()
    preflight.secrets_file()
    workspace = Workspace(Path(settings.get("WORKSPACE") or "").expanduser().absolute())
    name = Path(script).stem
    here = job_environment.site(workspace)
    gpus = min(here.gpus, 1) if tier == "train" else 0
    logs = workspace.root / "logs"
    environments("trl" if tier == "train" else "")
    shards = settings.number("SHARDS")
    # A chain's jobs get these from their request; this one does what the command would have done here.
    given = {
        s.name: os.environ[s.name] for s in settings.SETTINGS.values() if s.of_run and os.environ.get(s.name)
    }
    given |= {"FORCE": "1"} if settings.on("FORCE") else {}
    jobs = [chain.stage(name, tier, script, here, logs, args=tuple(args), gpus=gpus, **given)]
    if name == "data" and shards > 1:
        jobs = chain.data_shards(here, logs, shards, args=tuple(args), **given)
    ids = submit(jobs, logs / f"{name}.jobs.json")
    shown = ", ".join(f"{key} {i}" for key, i in ids.items())
    say(f"{name}: submitted as {shown}; squeue shows it, its log is in {logs}")


def enroot(image: str) -> str:
    """The name by which enroot finds an image: in a registry where it names one, else in the local engine."""
    registry, slash, name = image.partition("/")
    if slash and ("." in registry or ":" in registry):
        return f"docker://{registry}#{name}"
    return f"docker://{image}" if slash else f"dockerd://{image}"


def sqsh(workspace: Workspace, source: str, target: Path, say: Say, dry_run: bool = False) -> None:
    """Submit the import of an image to a .sqsh file on the shared file system."""
    here, logs = job_environment.site(workspace), workspace.root / "logs"
    job = Job(
        "sqsh",
        "omr-sqsh",
        "slurm/sqsh.sbatch",
        (*chain.place(here, gpu=False), "--nodes=1", "--requeue"),
        {**here.words, "SQSH_SOURCE": source, "SQSH_TARGET": str(target), "CONTAINER": ""},
        output=logs / "%x-%j.log",
        comment=str(target),
    )
    if dry_run:
        show([job], None, say)
        return
    slurm.need()
    preflight.secrets_file()
    slurm.refuse_second(target, f"{target}")
    ids = submit([job], logs / "sqsh.jobs.json")
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
