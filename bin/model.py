#!/usr/bin/env python3
"""`make model`: the base model at its pinned revision, patched for long context where the recipe says so."""

from pathlib import Path

import click

from omr import cli, recipe
from omr.models import base_model, hub


@click.command()
@cli.options("RECIPE", "MODEL", "BASE", "DRY_RUN", "FORCE")
def main(**words: str | bool | None) -> None:
    """Bring, patch and verify the base model of a recipe row."""
    row, workspace = recipe.model(words["model"]), cli.workspace()
    base = Path(words["base"]).expanduser() if words["base"] else None
    if words["dry_run"]:
        click.echo("\n".join(base_model.plan(row, workspace, hub.command, base)))
        return
    there = base_model.finished(row, workspace, base, words["force"])
    made = there or base_model.make(row, workspace, hub.download, base=base, force=words["force"])
    click.echo(
        f"{workspace.model(row.folder)}: {base_model.summary(made)}{' (finished already)' if there else ''}"
    )


if __name__ == "__main__":
    cli.main(main)
