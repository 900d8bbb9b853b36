#!/usr/bin/env python3
"""`make logs`: the newest log of a run; FOLLOW=1 stays with it, and goes on with the next job's."""

import time
from pathlib import Path

import click

from omr import cli, recipe
from omr.cluster import status
from omr.errors import RequestError


@click.command()
@cli.run_options
@cli.options("FOLLOW")
@click.option("--lines", default=50, help="How much of its end to show.", show_default=True)
def main(run: recipe.Run, follow: bool, lines: int) -> None:
    """Print the end of the newest log, then what is added to any of them."""
    folder = cli.workspace().run(run)
    there = status.logs(folder)
    if not there and not follow:
        raise RequestError(f"{folder.logs}: there is no log yet; make status says what the jobs wait for")
    ends: dict[Path, int] = {path: path.stat().st_size for path in there}
    if there:
        click.echo(f"==> {there[-1]} <==")
        click.echo("\n".join(there[-1].read_text(errors="replace").splitlines()[-lines:]))
    shown = there[-1] if there else None
    while follow:
        for path in status.logs(folder):
            size = path.stat().st_size
            if size > ends.get(path, 0):
                if path != shown:
                    click.echo(f"==> {path} <==")
                    shown = path
                with path.open("rb") as handle:
                    handle.seek(ends.get(path, 0))
                    click.echo(handle.read(size - ends.get(path, 0)).decode(errors="replace"), nl=False)
                ends[path] = size
        time.sleep(1)


if __name__ == "__main__":
    cli.main(main)
