#!/usr/bin/env python3
"""`make data`: the corpus's parquet to the shuffled SFT file of a round."""

import click

from omr import cli
from omr.data import request, rows, stage
from omr.data.by_recipe import bring
from omr.models import hub


@click.command()
@cli.options(
    "RECIPE", "DATASET", "ROUND", "VARIANT", "MODES", "RAW", "SEED", "NAME", "LIMIT", "WORKERS", "MEMORY"
)
@cli.options("TOKENIZER", "LENGTH_TOKENIZER", "BAD_ROWS", "ALLOW", "DROP", "VALIDATION", "DRY_RUN", "FORCE")
@click.option("--part", help="For a job of SHARDS: `plan`, or format part `2/8` of the shards (from 0).")
def main(part: str | None, dry_run: bool, force: bool, **words: str | int | None) -> None:
    """Format, filter and mix the corpus for one SFT round."""
    asked = request.request(cli.workspace(), **words)
    if dry_run:
        click.echo("\n".join(bring.describe(asked, hub.command)))
        return
    if part:
        stage.part(asked, hub.download, part, force)
        click.echo(f"{asked.output}: {part} done")
        return
    there = request.finished(asked, force)
    made = there or stage.make(asked, hub.download, force)
    click.echo(f"{rows.summary(asked.output, made)}{' (finished already)' if there else ''}")


if __name__ == "__main__":
    cli.main(main)
