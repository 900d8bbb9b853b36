#!/usr/bin/env python3
"""`make check-recipe RECIPE=mine.toml`: what can be wrong with a recipe, a line each; nothing is written."""

import click

from omr import cli, recipe
from omr.errors import RequestError
from omr.reports import recipe_check


@click.command()
@cli.options("RECIPE", "DRY_RUN")
def main(dry_run: bool) -> None:
    """Check every recipe in force: RECIPE's, or the shipped ones."""
    found = [fault for each in recipe.in_force() for fault in recipe_check.faults(each)]
    for each in recipe.in_force():
        click.echo("\n".join(recipe_check.summary(each)))
    if found:
        click.echo("".join(f"error: {fault}\n" for fault in found[:-1]), err=True, nl=False)
        raise RequestError(found[-1])
    click.echo("nothing wrong was found")


if __name__ == "__main__":
    cli.main(main)
