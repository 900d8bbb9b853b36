#!/usr/bin/env python3
"""Inside a Slurm job (slurm/*.sbatch): one link of a chain, or one plain stage."""

import sys

import click

from omr import cli
from omr.cluster.allocation import link
from omr.cluster.allocation import stage as plain_stage
from omr.cluster.allocation.attempt import Attempt


@click.command(context_settings={"ignore_unknown_options": True})
@cli.options(*cli.RUN, *cli.TRAINING)
@click.option("--stage", help="Run a plain stage: its secrets come from .env here.")
@click.option("--complete", is_flag=True, help="Before the stage: prove that the training is complete.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def main(stage: str | None, complete: bool, command: tuple[str, ...], **words: str | int | None) -> None:
    """Do one job's work, with the secrets of .env in the environment alone."""
    if stage and not complete:
        sys.exit(plain_stage.run_stage(stage, command))
    attempt = Attempt.of_this_job(cli.train_request(**words), cli.workspace())
    if stage:
        sys.exit(plain_stage.check_complete(attempt) or plain_stage.run_stage(stage, command))
    sys.exit(link.run_link(attempt, command))


if __name__ == "__main__":
    cli.main(main)
