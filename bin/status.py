#!/usr/bin/env python3
"""`make status`: each job of a run's chain, how far the training is, what is left."""

from dataclasses import asdict
from json import dumps

import click

from omr import cli, recipe, settings
from omr.cluster import slurm, status


@click.command()
@cli.run_options(optional=True)
@cli.options("JSON")
def main(run: recipe.Run | None, json: bool) -> None:
    """Show one run, or every run of the workspace that has a chain."""
    workspace = cli.workspace()
    limit = slurm.limit(settings.get("TIME"))
    if run:
        found = [status.of(run, workspace.run(run), limit)]
    else:
        found = status.of_all(workspace.root, limit, lambda line: click.echo(line, err=True))
    if json:
        click.echo(dumps([asdict(one) for one in found], indent=2, default=str))
        return
    blocks = [status.lines(one) for one in found]
    if not run and (plain := status.stages(workspace.root)):
        blocks.insert(0, [f"stages  ({workspace.root / 'logs'})", *status.table(plain)])
    if not blocks:
        blocks = [[f"{workspace.root}: no run has a chain; make train RUNNER=slurm submits one"]]
    click.echo("\n\n".join("\n".join(block) for block in blocks))


if __name__ == "__main__":
    cli.main(main)
