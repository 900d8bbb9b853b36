#!/usr/bin/env python3
"""`make average`: the converted steps of a run, averaged in fp32 into final/, settled and proved."""

import click

from omr import cli, recipe
from omr.models.final import average


@click.command()
@cli.run_options
@cli.options("VERIFY", "DRY_RUN", "FORCE")
def main(run: recipe.Run, verify: bool, dry_run: bool, force: bool) -> None:
    """Average a trained run's steps into final/."""
    workspace = cli.workspace()
    if dry_run:
        click.echo("\n".join(average.plan(run, workspace)))
        return
    there = average.finished(run, workspace, force)
    made = there or average.make(run, workspace, force, verify)
    click.echo(f"{workspace.run(run).final}: {average.summary(made)}{' (finished already)' if there else ''}")


if __name__ == "__main__":
    cli.main(main)
