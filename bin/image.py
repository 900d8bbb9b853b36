#!/usr/bin/env python3
"""`make image` and `make image-check`: build the two images, and let each test itself."""

import click

from omr import cli
from omr.containers import image
from omr.containers import run as container
from omr.files import lock


@click.command()
@cli.options("STAGE", "DRY_RUN")
@click.option("--check", is_flag=True, help="test the images instead of building them")
def run(stage: str | None, dry_run: bool, check: bool) -> None:
    """Build the images (both, or the one that STAGE names), or test them."""
    wanted = image.stages(stage)
    if dry_run:
        click.echo("\n".join(image.plan(wanted)))
    elif check:
        image.check(container.detect(), wanted)
    else:
        with lock(image.SITE.with_name("image.lock"), "an image"):
            image.build_all(container.detect(), wanted)


if __name__ == "__main__":
    cli.main(run)
