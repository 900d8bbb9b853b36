"""`make eval` with RUNNER=slurm: check what can be checked here, submit the evaluation's jobs."""

from omr import recipe, settings
from omr.cluster import job_environment, submit, train
from omr.cluster.evaluation.jobs import Evaluation
from omr.cluster.submit import JobGraph, Say
from omr.request import TrainRequest
from omr.workspace import Workspace


def evaluate(
    run: recipe.Run, workspace: Workspace, evaluation: Evaluation, say: Say, dry_run: bool = False
) -> None:
    """Submit the evaluation of a run that has ended, or with `dry_run` say what would be submitted.

    A RequestError while jobs of the run live: two evaluations at once would ask the same twice.
    """
    folder, graph = workspace.run(run), job_graph(run, workspace, evaluation)
    if dry_run:
        submit.show(graph, say)
        return
    train.check_request(run, True, say)
    with train.submission_lock(run, folder):
        train.refuse_second(run, folder, say)
        job_environment.make_node_environments(run.model.engine, evaluate=True)
        ids = submit.submit(graph)
    say(f"{run.title}: submitted as {', '.join(f'{key} {number}' for key, number in ids.items())}")
    say(f"make status {recipe.run_words(run)} watches it; logs are in {folder.logs}")


def job_graph(
    run: recipe.Run, workspace: Workspace, evaluation: Evaluation, request: TrainRequest | None = None
) -> JobGraph:
    """The jobs that evaluate a run; `request` is what it is trained with, where that is known."""
    folder = workspace.run(run)
    request = request or TrainRequest.of(run, gpus=settings.number("GPUS"))
    site = job_environment.site(workspace, request)
    return JobGraph(evaluation.jobs(run, folder, site), submit.eval_record(folder), run)
