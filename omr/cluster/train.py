"""`make train` with RUNNER=slurm: check what can be checked here, freeze the run, submit its chain."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from omr import files, manifest, recipe, settings
from omr.cluster import frozen_code, job_environment, ns, slurm, submit
from omr.cluster.chain import Chain
from omr.cluster.evaluation import checks
from omr.cluster.evaluation.jobs import Evaluation
from omr.cluster.jobs import Dependency
from omr.cluster.submit import JobGraph, Say, Submission
from omr.errors import RequestError, choose
from omr.request import TrainRequest
from omr.run import frozen, snapshot, validation
from omr.run.chain_state import ChainState
from omr.run.checkpoints import Checkpoints
from omr.training import preflight, stage
from omr.training.nemo_rl import engine_file, prepared_data
from omr.training.nemo_rl.engine_file import EngineFile
from omr.workspace import RunFolder, Workspace


def train(request: TrainRequest, workspace: Workspace, how: Submission, say: Say) -> None:
    """Submit what a training still needs, by the launcher that was chosen; nothing for a finished run."""
    launcher = choose("LAUNCHER", how.launcher, ("sbatch", "ns"))
    run, folder = request.run, workspace.run(request.run)
    if manifest.read(folder.final) is not None:
        say(f"{run.title} is finished: {folder.final}")
    elif launcher == "ns":
        ns.train(request, workspace, how, say)
    elif how.dry_run:
        show(request, workspace, how, say)
    else:
        _submit(request, workspace, how, say)


def show(request: TrainRequest, workspace: Workspace, how: Submission, say: Say) -> None:
    """Say exactly what would be submitted and written, and what is lacking for it."""
    run = request.run
    graph = job_graph(request, workspace, how)
    size = f"{request.job_nodes} nodes of {request.job_gpus} GPUs"
    say(f"{run.title}: {run.schedule.steps:,} steps of {run.model.batch:,} rows on {size}")
    try:
        wanted = frozen.inputs(request, workspace)
        if graph.engine_file:
            engine_file.check(graph.engine_file, wanted)
    except RequestError as lack:
        say(f"lacks: {lack}")
    say("")
    submit.show(graph, say)


def _submit(request: TrainRequest, workspace: Workspace, how: Submission, say: Say) -> None:
    """Check, freeze the run, write what its engine reads, submit the chain."""
    run, folder = request.run, workspace.run(request.run)
    ns.refuse(folder)
    graph = job_graph(request, workspace, how)
    check_request(run, how.evaluate, say)
    wanted = frozen.inputs(request, workspace)
    if told := frozen.knows_held_out(wanted):
        say(f"note: {told}")
    if graph.engine_file:
        engine_file.check(graph.engine_file, wanted)
    with submission_lock(run, folder):
        refuse_second(run, folder, say)
        frozen.freeze(folder, wanted)
        frozen_code.keep(folder, say)
        record_data(folder, wanted.data.path)
        if graph.engine_file:
            files.write_text(graph.engine_file.path, graph.engine_file.text)
        job_environment.make_node_environments(request.engine, how.evaluate)
        folder.logs.mkdir(exist_ok=True)
        ids = submit.submit(graph)
    say(f"{run.title}: submitted as {', '.join(f'{key} {number}' for key, number in ids.items())}")
    say(f"make status {recipe.run_words(run)} watches it; logs are in {folder.logs}")


@dataclass(frozen=True)
class FutureInputs:
    """What other jobs of a graph make before the training begins; None: it is there now."""

    base: Path | None = None
    data: Path | None = None
    after: tuple[Dependency, ...] = ()  # the jobs that make them


def job_graph(
    request: TrainRequest, workspace: Workspace, how: Submission, future: FutureInputs | None = None
) -> JobGraph:
    """The jobs that would bring this run to its end now, and what its engine reads."""
    run, engine, folder = request.run, request.engine, workspace.run(request.run)
    future = future or FutureInputs()
    saved = Checkpoints(folder, engine)
    trained = folder.run_json.exists() and saved.complete(run, saved.whole())
    chain = Chain(
        run,
        folder,
        job_environment.site(workspace, request, snapshot.home(folder.root, snapshot.code_id())),
        engine=engine,
        links=how.links,
        evaluation=Evaluation.of_settings(run) if how.evaluate else None,
        validate=bool(validation.files_of(frozen.data_of(run, workspace, request.modes))),
        prepare=engine == "nemo-rl" and not trained and not _prepared(request, workspace),
        trained=trained,
        after=future.after,
    )
    file = engine_file_of(request, workspace, base=future.base, data=future.data)
    return JobGraph(chain.jobs(), folder.jobs_json, run, file)


def engine_file_of(
    request: TrainRequest, workspace: Workspace, *, base: Path | None = None, data: Path | None = None
) -> EngineFile | None:
    """What the jobs' engine reads; None for the one-box engine, which writes its own.

    `base` and `data` are given where they are still to be made.
    """
    if request.engine != "nemo-rl":
        return None
    return engine_file.of(request, workspace, base=base, data=data, secrets=job_environment.job_secrets())


def _prepared(request: TrainRequest, workspace: Workspace) -> bool:
    """Whether NeMo-RL's form of the training data is there already."""
    data = frozen.data_of(request.run, workspace, request.modes)
    origin = manifest.read(data)
    return origin is not None and prepared_data.finished(
        workspace, origin["sha256"], request.limit, validation.files_of(data)
    )


def check_request(run: recipe.Run, evaluate: bool, say: Say) -> None:
    """A RequestError for what is wrong before anything is written or submitted; `say` gets what is odd."""
    slurm.need()
    preflight.secrets_file()
    preflight.image(settings.get("CONTAINER"))
    margin, limit = settings.number("MARGIN"), slurm.limit(settings.get("TIME"))
    if margin and limit and margin >= limit:
        raise RequestError(
            f"MARGIN={margin} leaves nothing of TIME={settings.get('TIME')} to train in; set fewer seconds,"
            " or leave it out to have it learned"
        )
    if evaluate:
        checks.problems(run)
    for name in job_environment.exported_secrets():
        say(f"note: {name} is set here but not in {settings.env_file()}, where jobs read secrets from")


def submission_lock(run: recipe.Run, folder: RunFolder) -> AbstractContextManager[None]:
    """Held while a chain of this run is submitted; makes the run's folder."""
    folder.root.mkdir(parents=True, exist_ok=True)
    return files.lock(folder.root / ".submit.lock", f"the chain of {run.title}")


def refuse_second(run: recipe.Run, folder: RunFolder, say: Say) -> None:
    """A RequestError while an earlier chain of the run lives, or its evaluation.

    What an interrupted submission left of one is cancelled. The caller holds the submission lock.
    """
    submit.cancel_interrupted(str(folder.root), submit.run_records(folder), say)
    slurm.refuse_second(str(folder.root), run.title)


def clear(run: recipe.Run, folder: RunFolder, say: Say) -> None:
    """FORCE=1 for a chain of jobs: what the run has is removed, unless a chain of it lives."""
    slurm.need()
    with submission_lock(run, folder):
        refuse_second(run, folder, say)
        stage.clear(folder)
        ns.forget(folder)


def record_data(folder: RunFolder, data: Path) -> None:
    """Write down what the training data looks like, for the links to compare.

    What an earlier submission wrote down stands: a file that changed since does not become right by asking
    again, and a link takes the whole hash of one that was touched.
    """
    state = ChainState.load(folder)
    if state.data is None and (seen := manifest.untouched(data)):
        state.data = seen
        state.save(folder)
