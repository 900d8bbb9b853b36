#!/usr/bin/env python3
"""`make validate`: the loss of a run's final model, and of each of its parts, on held-out rows."""

import click

from omr import cli, recipe
from omr.training import validate


@click.command()
@cli.run_options
@cli.options("DRY_RUN", "FORCE")
def main(run: recipe.Run, dry_run: bool, force: bool) -> None:
    """Measure the models that a run ended with on the rows that were held out of its data."""
    workspace = cli.workspace()
    wanted = validate.wanted_of(run, workspace)
    if dry_run:
        click.echo("\n".join(validate.plan(wanted, force)))
        return
    there = None if force else validate.finished(wanted)
    found = there or validate.make(wanted, click.echo, force)
    header, rows = validate.table(found)
    click.echo("\n".join(cli.aligned(rows, header, right=True)))
    click.echo(
        f"{wanted.folder.validation_json}: nats a trained token, in {found.precision}"
        + (" (finished already)" if there else "")
    )


if __name__ == "__main__":
    cli.main(main)
