#!/usr/bin/env python3
"""Inside a Slurm job (slurm/*.sbatch): one link of a chain, or one plain stage."""

import os
import sys

import click

from omr import cli, settings
from omr.cluster import link
from omr.cluster.attempt import Attempt
from omr.errors import OmrError
from omr.request import TrainRequest
from omr.run.checkpoints import Checkpoints


@click.command(context_settings={"ignore_unknown_options": True})
@cli.options("MODEL", "ROUND", "VARIANT", "NAME", "STEPS", *cli.TRAINING)
@click.option("--stage", help="Run a plain stage: its secrets come from .env here.")
@click.option("--complete", is_flag=True, help="Before the stage: prove that the training is complete.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def main(stage: str | None, complete: bool, command: tuple[str, ...], **words: str | int | None) -> None:
    """Do one job's work, with the secrets of .env in the environment alone."""
    if stage and not complete:
        sys.exit(link.run_stage(stage, command))
    attempt = _attempt(cli.train_request(**words))
    if stage:
        sys.exit(link.after_training(attempt) or link.run_stage(stage, command))
    sys.exit(link.run_link(attempt, command))


def _attempt(request: TrainRequest) -> Attempt:
    """This start of this job, as Slurm's variables name it."""
    workspace = cli.workspace()
    folder = workspace.run(request.run)
    return Attempt(
        request,
        folder,
        workspace,
        job=os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ["SLURM_JOB_ID"],
        restart=int(os.environ.get("SLURM_RESTART_COUNT") or 0),
        link=f"{os.environ.get('LINK', '?')} of {os.environ.get('LINKS', '?')}",
        checkpoints=Checkpoints(folder, request.engine),
        margin=_margin(),
    )


def _margin() -> int | None:
    text = settings.get("MARGIN")
    if text is None:
        return None
    if not text.isdigit():
        raise OmrError(f"MARGIN={text} is no number of seconds; set one, or leave it out to have it learned")
    return int(text)


if __name__ == "__main__":
    cli.main(main)
