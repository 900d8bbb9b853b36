#!/usr/bin/env python3
"""`make report`: one self-contained page about a run, and the run in three lines."""

import click

from omr import cli, recipe
from omr.reports import run_page


@click.command()
@cli.run_options
@cli.options("FORCE", "DRY_RUN")
def main(run: recipe.Run, force: bool, dry_run: bool) -> None:
    """Write runs/…/report.html from what the run left."""
    folder = cli.workspace().run(run)
    if dry_run:
        click.echo(f"would write {folder.report}")
        return
    fresh = run_page.write(run, folder, force)
    click.echo(f"{run.title}: {run_page.lead(folder)}")
    click.echo(f"  report  {folder.report}{'' if fresh else ' (up to date)'}")
    if folder.final.exists():
        click.echo(f"  model   {folder.final}")


if __name__ == "__main__":
    cli.main(main)
