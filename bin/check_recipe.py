#!/usr/bin/env python3
"""`make check-recipe RECIPE=mine.toml`: what can be wrong with a recipe, a line each; nothing is written."""

from pathlib import Path

import click

from omr import cli, recipe
from omr.errors import RequestError
from omr.reports import recipe_check
from omr.workspace import Workspace


@click.command()
@cli.options("RECIPE", "WORKSPACE", "DRY_RUN")
def main(workspace: str, dry_run: bool) -> None:
    """Check every recipe in force: RECIPE's, or the shipped ones."""
    there = Workspace(Path(workspace).expanduser().absolute())
    found = [fault for each in recipe.in_force() for fault in recipe_check.faults(each, there)]
    for each in recipe.in_force():
        click.echo("\n".join(recipe_check.summary(each, there)))
    if found:
        click.echo("".join(f"error: {fault}\n" for fault in found[:-1]), err=True, nl=False)
        raise RequestError(found[-1])
    click.echo("nothing wrong was found")


if __name__ == "__main__":
    cli.main(main)
