#!/usr/bin/env python3
"""`make average`: the converted steps of a run, averaged in fp32 into final/, settled and proved."""

import click

from omr import cli
from omr.models import average


@click.command()
@cli.options("MODEL", "ROUND", "VARIANT", "NAME", "STEPS", "VERIFY", "DRY_RUN", "FORCE")
def main(verify: bool, dry_run: bool, force: bool, **words: str | int | None) -> None:
    """Average a trained run's steps into final/."""
    run, workspace = cli.the_run(**words), cli.workspace()
    if dry_run:
        click.echo("\n".join(average.plan(run, workspace)))
        return
    there = average.finished(run, workspace, force)
    made = there or average.make(run, workspace, force, verify)
    click.echo(f"{workspace.run(run).final}: {average.summary(made)}{' (finished already)' if there else ''}")


if __name__ == "__main__":
    cli.main(main)
