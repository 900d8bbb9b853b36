#!/usr/bin/env python3
"""`make train`: train a run where RUNNER says, then average and finish it."""

import click

from omr import cli


@click.command()
@cli.options("MODEL", "ROUND", "VARIANT", "NAME", "STEPS")
def train(model: str | None, round: str, variant: str | None, name: str | None, steps: int | None) -> None:
    """Train a run of the recipe."""
    run = cli.the_run(model, round, variant, steps, name)
    click.echo(run.title)


if __name__ == "__main__":
    cli.main(train)
