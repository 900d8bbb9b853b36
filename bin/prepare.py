#!/usr/bin/env python3
"""The training data in the engine's own form, once for all links; a job of the chain before them."""

import click

from omr import cli, recipe
from omr.run import events, request
from omr.training import preflight
from omr.training.nemo_rl import prepared_data


@click.command()
@cli.options("MODEL", "ROUND", "VARIANT", "NAME", "STEPS", "LIMIT", "MODES", "WORKERS")
def main(**words: str | int | None) -> None:
    """Build what NeMo-RL would rebuild at every start."""
    run = cli.the_run(*(words[name] for name in ("model", "round", "variant", "steps", "name")))
    workspace = cli.workspace()
    data = request.data_of(run, workspace, recipe.modes(words["modes"]))
    made = prepared_data.make(workspace, data, words["limit"], words["workers"])
    folder = workspace.run(run)
    if folder.jobs_json.exists() and "data" not in events.read(folder):
        # Its whole hash stands behind what was made: no link has to take it again.
        events.note(folder, data=preflight.fingerprint(data))
    click.echo(made)


if __name__ == "__main__":
    cli.main(main)
