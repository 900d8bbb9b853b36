#!/usr/bin/env python3
"""`make image-check`, inside an image: its self-test, a line each; exit 1 when something is missing."""

import sys

import click

from omr import cli
from omr.containers import self_test


@click.command()
@click.argument("stage", type=click.Choice(["tools", "train"]))
def image_check(stage: str) -> None:
    """Test the image that this runs in."""
    failed = False
    for finding in self_test.findings(stage):
        click.echo(f"  {finding.state:<9} {finding.name:<17} {finding.text}")
        failed |= finding.state == "missing"
    sys.exit(failed)


if __name__ == "__main__":
    cli.main(image_check)
