#!/usr/bin/env python3
"""`make plan`: what a run would do and cost; every job, command and file, before anything is queued."""

from dataclasses import asdict
from json import dumps

import click

from omr import cli, settings
from omr.cluster import plan, slurm, submit, train
from omr.request import TrainRequest


@click.command()
@cli.train_options
@cli.options("NUM_TRAINING_JOBS", "EVAL", "JSON")
@click.option("--step-seconds", type=float, help="Seconds of a step, where you know them.")
def main(
    request: TrainRequest, num_training_jobs: int, eval: bool, json: bool, step_seconds: float | None
) -> None:
    """Count, estimate, and show the chain as it would be submitted."""
    workspace, run = cli.workspace(), request.run
    found = plan.numbers(request, workspace, slurm.limit(settings.get("TIME")), step_seconds)
    if json:
        click.echo(dumps(asdict(found), indent=2))
        return
    click.echo(f"{run.title}\n" + "\n".join(plan.lines(found, request)))
    if "STEPS" not in request.words() and request.job_gpus:
        click.echo(f"  first     {plan.smoke(run)}")
    click.echo("")
    how = submit.Submission(num_training_jobs, eval, dry_run=True)
    train.show(request, workspace, how, click.echo)


if __name__ == "__main__":
    cli.main(main)
