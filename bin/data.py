#!/usr/bin/env python3
"""`make data`: the corpus's parquet to the shuffled SFT file of a round."""

import click

from omr import cli, data, hub


@click.command()
@cli.options("DATASET", "ROUND", "VARIANT", "MODES", "RAW", "SEED", "NAME", "LIMIT", "WORKERS", "MEMORY")
@cli.options("TOKENIZER", "LENGTH_TOKENIZER", "BAD_ROWS", "DRY_RUN", "FORCE")
def main(**words: str | int | bool | None) -> None:
    """Format, filter and mix the corpus for one SFT round."""
    asked = data.request(cli.workspace(), words)
    if words["dry_run"]:
        click.echo("\n".join(data.describe(asked, hub.command)))
        return
    there = data.finished(asked, words["force"])
    made = there or data.make(asked, hub.download, words["force"])
    click.echo(f"{data.summary(asked.output, made)}{' (finished already)' if there else ''}")


if __name__ == "__main__":
    cli.main(main)
