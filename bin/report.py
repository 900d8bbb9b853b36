#!/usr/bin/env python3
"""`make report`: one self-contained page about a run; without MODEL, about the whole workspace."""

from json import dumps

import click

from omr import cli, recipe, settings
from omr.cluster import slurm
from omr.reports.run import page
from omr.reports.workspace import inventory
from omr.reports.workspace import page as workspace_page
from omr.workspace import Workspace


@click.command()
@cli.run_options(optional=True)
@cli.options("FORCE", "JSON", "DRY_RUN")
def main(run: recipe.Run | None, force: bool, json: bool, dry_run: bool) -> None:
    """Write runs/…/report.html from what the run left, or report.html about the workspace."""
    workspace = cli.workspace()
    if dry_run:
        click.echo(f"would write {workspace.run(run).report if run else workspace.report}")
    elif run is None:
        about_all(workspace, json)
    else:
        about_one(run, workspace, force, json)


def about_one(run: recipe.Run, workspace: Workspace, force: bool, json: bool) -> None:
    """The page of a run; with JSON what the workspace's page has about it."""
    folder = workspace.run(run)
    found = page.need(run, folder)
    if json:
        click.echo(dumps(inventory.as_json(inventory.of_run(run, folder, workspace)), indent=2))
        return
    fresh = page.write(found, force)
    click.echo(f"{run.title}: {page.lead(found)}")
    click.echo(f"  report  {folder.report}{'' if fresh else ' (up to date)'}")
    if folder.final.exists():
        click.echo(f"  model   {folder.final}")


def about_all(workspace: Workspace, json: bool) -> None:
    """The page of the workspace, or the same as JSON."""
    found = inventory.take(workspace, slurm.limit(settings.get("TIME")))
    if json:
        click.echo(dumps(inventory.as_json(found), indent=2))
        return
    if not workspace.root.exists():
        click.echo(f"{workspace.root}: nothing was made yet; make demo makes a first run of all stages")
        return
    workspace_page.write(found, workspace)
    click.echo(workspace_page.lead(found))
    click.echo(f"  report  {workspace.report}")


if __name__ == "__main__":
    cli.main(main)
