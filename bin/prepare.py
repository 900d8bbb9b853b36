#!/usr/bin/env python3
"""The training data in the engine's own form, once for all links; a job of the chain before them."""

import click

from omr import cli, prepare, recipe, runs


@click.command()
@cli.options("MODEL", "ROUND", "VARIANT", "NAME", "STEPS", "LIMIT", "MODES", "WORKERS")
def main(**words: str | int | None) -> None:
    """Build what NeMo-RL would rebuild at every start."""
    run = cli.the_run(*(words[name] for name in ("model", "round", "variant", "steps", "name")))
    workspace = cli.workspace()
    data = runs.data_of(run, workspace, recipe.modes(words["modes"]))
    click.echo(prepare.make(workspace, data, words["limit"], words["workers"]))


if __name__ == "__main__":
    cli.main(main)
