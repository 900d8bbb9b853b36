#!/usr/bin/env python3
"""`make ask`: one problem for a run's final model, its answer printed as it is written."""

import sys

import click

from omr import cli, recipe
from omr.errors import RequestError
from omr.evaluation import talk
from omr.evaluation.request import Means, sampling_of


@click.command()
@cli.run_options
@cli.options("Q", "TEMPERATURE", "TOP_P", "MAX_TOKENS", "SERVER", "ALLOW", "DRY_RUN")
def main(
    run: recipe.Run,
    q: str | None,
    temperature: str | None,
    top_p: str | None,
    max_tokens: int | None,
    server: str | None,
    allow: str | None,
    dry_run: bool,
) -> None:
    """Ask the model that a run ended with."""
    if not q or not q.strip():
        raise RequestError('Q is not set; write the problem: make ask MODEL=tiny Q="What is 12+34?"')
    workspace = cli.workspace()
    sampling = sampling_of(
        run,
        temperature=float(temperature) if temperature else None,
        top_p=float(top_p) if top_p else None,
        max_tokens=max_tokens,
    )
    request = talk.request_of(run, workspace, sampling, Means(server, allow == "server"), q)
    if dry_run:
        click.echo(f"would ask {request.models['after']}")
        return

    def write(piece: str) -> None:
        click.echo(piece, nl=False)
        sys.stdout.flush()

    talk.ask(request, workspace, write, lambda line: click.echo(line, err=True))
    click.echo()


if __name__ == "__main__":
    cli.main(main)
