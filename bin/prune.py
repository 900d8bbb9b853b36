#!/usr/bin/env python3
"""`make prune`: what of a run is no longer needed; with YES=1 it is removed."""

import click

from omr import cli, recipe
from omr.run import prune


@click.command()
@cli.run_options
@cli.options("YES", "DRY_RUN")
def main(run: recipe.Run, yes: bool, dry_run: bool) -> None:
    """List, and with YES=1 remove, deadline saves and what a finished final/ was made from."""
    workspace = cli.workspace()
    found = prune.surplus(run, workspace)
    if not found:
        click.echo(f"{workspace.run(run).root}: everything there is needed")
        return
    click.echo("\n".join(prune.lines(found)))
    if yes and not dry_run:
        prune.remove(found)
        click.echo("removed")
    else:
        click.echo("YES=1 removes them")


if __name__ == "__main__":
    cli.main(main)
