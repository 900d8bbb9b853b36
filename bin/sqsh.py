#!/usr/bin/env python3
"""`make sqsh`: the training image as a .sqsh file on the shared file system, imported by a compute node."""

from pathlib import Path

import click

from omr import cli
from omr.cluster import stages
from omr.errors import RequestError


@click.command()
@cli.options("CONTAINER", "IMAGE", "DRY_RUN")
def main(container: str | None, image: str, dry_run: bool) -> None:
    """Submit the import of IMAGE to CONTAINER."""
    target = Path(container or "").expanduser()
    if target.suffix != ".sqsh":
        raise RequestError(
            f"CONTAINER={container or ''} is no .sqsh path; set it to the file that is to be written"
        )
    if target.exists():
        click.echo(f"{target} is there already; remove it to have it imported anew")
        return
    if not target.parent.is_dir():
        raise RequestError(
            f"CONTAINER={target}: there is no folder {target.parent}; make it on the shared file system"
        )
    stages.submit_image_import(cli.workspace(), f"{image}:train", target.absolute(), click.echo, dry_run)


if __name__ == "__main__":
    cli.main(main)
