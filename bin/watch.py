#!/usr/bin/env python3
"""`make watch`: a run in the terminal while it goes on, or all that are active; q leaves, the runs go on."""

import contextlib

import click

from omr import cli, recipe
from omr.errors import RequestError
from omr.reports.watch import screen
from omr.reports.watch.looks import Watched


@click.command()
@cli.run_options(optional=True)
def main(run: recipe.Run | None) -> None:
    """Stay with one run, or with every active run of the workspace; ends with them."""
    workspace = cli.workspace()
    with contextlib.suppress(KeyboardInterrupt):
        if run is None:
            screen.watch_all(workspace.root, click.echo)
            return
        folder = workspace.run(run)
        if not any(path.exists() for path in (folder.run_json, folder.jobs_json)):
            raise RequestError(f"{folder.root}: was not begun; make train {recipe.run_words(run)} begins it")
        screen.watch_run(Watched(run, folder), click.echo)


if __name__ == "__main__":
    cli.main(main)
