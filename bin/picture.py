#!/usr/bin/env python3
"""`make picture`: the README's picture of a report, taken of the demo's by headless Chromium."""

import click

from omr import cli, recipe
from omr.errors import RequestError
from omr.files import human
from omr.reports import browser
from omr.settings import ROOT

PICTURE = ROOT / "docs" / "images" / "report.png"
SIZE = (900, 1380)  # pixels: the page's width, and its top as far as the learning curve


@click.command()
@cli.options("DRY_RUN")
def picture(dry_run: bool) -> None:
    """Take the picture of round 1's report."""
    report = cli.workspace().run(recipe.run("tiny")).report
    if not report.exists():
        raise RequestError(f"{report}: there is no report; run make demo first")
    if dry_run:
        click.echo(f"would write {PICTURE} of {report} with {browser.need()}")
        return
    PICTURE.parent.mkdir(exist_ok=True)
    with browser.browser() as chromium:
        chromium.show(report, *SIZE)
        PICTURE.write_bytes(chromium.picture())
    click.echo(f"{PICTURE}: {human(PICTURE.stat().st_size)}")


if __name__ == "__main__":
    cli.main(picture)
