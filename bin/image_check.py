#!/usr/bin/env python3
"""`make image-check`, inside an image: its self-test, a line each; exit 1 when something is missing."""

import sys

import click

from omr import cli
from omr.containers import self_test
from omr.containers.checks import MISSING


@click.command()
@click.argument("stage", type=click.Choice(["tools", "train"]))
def image_check(stage: str) -> None:
    """Test the image that this runs in."""
    failed = False
    for check in self_test.checks(stage):
        click.echo(f"  {check.line()}")
        failed |= check.state == MISSING
    sys.exit(failed)


if __name__ == "__main__":
    cli.main(image_check)
