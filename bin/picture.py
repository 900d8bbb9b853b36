#!/usr/bin/env python3
"""`make picture`: the README's picture of a report, taken of the demo's by headless Chromium."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import click

from omr import cli, recipe
from omr.errors import OmrError, RequestError
from omr.files import human
from omr.settings import ROOT

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PICTURE = ROOT / "docs" / "images" / "report.png"
SIZE = (980, 1415)  # pixels: the page's width, and its top as far as the learning curve


@click.command()
@cli.options("DRY_RUN")
def picture(dry_run: bool) -> None:
    """Take the picture of round 1's report."""
    report = cli.workspace().run(recipe.run("tiny")).report
    if not report.exists():
        raise RequestError(f"{report}: there is no report; run make demo first")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise RequestError(f"none of {', '.join(BROWSERS)} is installed; install Debian's package chromium")
    if dry_run:
        click.echo(f"would write {PICTURE} of {report} with {browser}")
        return
    PICTURE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        taken = Path(folder) / "report.png"
        options = ["--headless", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}/profile"]
        options += ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's own rule for root
        options += [f"--window-size={SIZE[0]},{SIZE[1]}", f"--screenshot={taken}", report.as_uri()]
        done = subprocess.run(
            [browser, *options], capture_output=True, text=True, errors="replace", timeout=120
        )
        if not taken.exists():
            last = next(iter(done.stderr.strip().splitlines()[-1:]), "")
            raise OmrError(f"{browser} took no picture ({last}); run it by hand to see why")
        shutil.copyfile(taken, PICTURE)
    click.echo(f"{PICTURE}: {human(PICTURE.stat().st_size)}")


if __name__ == "__main__":
    cli.main(picture)
