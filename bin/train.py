#!/usr/bin/env python3
"""`make train`: train a run where RUNNER says, then average and finish it.

The tiny recipe, and a real model with ENGINE=trl, train on this machine; the others as a chain of Slurm jobs,
whose links run this script for the training alone.
"""

import os

import click

from omr import cli, settings
from omr.cluster import frozen_code, slurm, submit, train
from omr.request import TrainRequest
from omr.training import stage


@click.command()
@cli.train_options
@cli.options("DEADLINE", "NUM_TRAINING_JOBS", "LAUNCHER", "EVAL", "VERIFY", "DRY_RUN", "FORCE", "RECODE")
@click.option(
    "--train-only", "--train_only", is_flag=True, help="Neither convert nor average: a link's part."
)
def main(
    request: TrainRequest,
    deadline: str | None,
    num_training_jobs: int,
    launcher: str,
    eval: bool,
    verify: bool,
    dry_run: bool,
    force: bool,
    recode: bool,
    train_only: bool,
) -> None:
    """Train a run of the recipe."""
    workspace = cli.workspace()
    if end := stage.parse_deadline(deadline):
        os.environ["OMR_DEADLINE"] = str(min(end, float(os.environ.get("OMR_DEADLINE") or end)))
    if train_only or stage.is_training_process():
        stage.train_only(request, workspace)
        return
    where = settings.get("RUNNER") if dry_run else stage.runner(request.run)
    title, folder = request.run.title, workspace.run(request.run)
    if not force and stage.finished(request, workspace):
        click.echo(f"{title}: finished already: {folder.final}")
        if told := stage.unmeasured(request.run, workspace):
            click.echo(told)
    elif where == "slurm" or (where is None and request.engine == "nemo-rl"):
        if not force and launcher != "ns":
            frozen_code.become(folder, recode, click.echo)
        if force and not dry_run:
            train.clear(request.run, folder, click.echo)
        how = submit.Submission(num_training_jobs, eval, launcher, dry_run)
        train.train(request, workspace, how, click.echo)
    elif dry_run:
        click.echo("\n".join(stage.describe(request, workspace)))
    else:
        if folder.jobs_json.exists() and slurm.available():
            slurm.refuse_second(str(folder.root), title)
        stage.train_locally(request, workspace, force=force, verify=verify, say=click.echo)


if __name__ == "__main__":
    cli.main(main)
