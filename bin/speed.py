#!/usr/bin/env python3
"""`make bench`: how fast this machine does what the toolkit does, beside plainer ways, in one table."""

import tempfile
from pathlib import Path

import click

from omr import cli


@click.command()
@cli.options("ROWS")
@click.option("--repeat", default=3, show_default=True, help="Runs of each way, in turns.")
@click.option("--scratch", type=click.Path(path_type=Path), help="Where its files lie meanwhile.")
@click.option(
    "--page", type=click.Path(path_type=Path, exists=True), help="Put the table into this page, too."
)
@click.argument("families", nargs=-1)
def main(rows: int, repeat: int, scratch: Path | None, page: Path | None, families: tuple[str, ...]) -> None:
    """Measure all FAMILIES of cases, or those named: files of bench/."""
    from bench import measure  # an image has bin/ and omr/ alone

    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        text = measure.report(measure.chosen(families), measure.Place(Path(folder), rows), repeat)
    click.echo(text)
    if page:
        measure.put(text, page)


if __name__ == "__main__":
    cli.main(main)
