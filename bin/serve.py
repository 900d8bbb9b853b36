#!/usr/bin/env python3
"""`make serve`: an OpenAI-compatible server of a run's final model, until it is interrupted."""

import click

from omr import cli, recipe
from omr.evaluation import talk
from omr.evaluation.request import Means, sampling_of


@click.command()
@cli.run_options
@cli.options("MAX_TOKENS", "DRY_RUN")
def main(run: recipe.Run, max_tokens: int | None, dry_run: bool) -> None:
    """Serve the model that a run ended with, and print a line that asks it."""
    workspace = cli.workspace()
    request = talk.request_of(run, workspace, sampling_of(run, max_tokens=max_tokens), Means())
    if dry_run:
        click.echo(f"would serve {request.models['after']}")
        return
    talk.serve(request, workspace, click.echo)


if __name__ == "__main__":
    cli.main(main)
