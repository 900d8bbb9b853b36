#!/usr/bin/env python3
"""The training data in the engine's own form, once for all links; a job of the chain before them."""

import click

from omr import cli, manifest
from omr.request import TrainRequest
from omr.run import frozen, validation
from omr.run.chain_state import ChainState
from omr.training.nemo_rl import prepared_data


@click.command()
@cli.train_options
@cli.options("WORKERS")
def main(request: TrainRequest, workers: int | None) -> None:
    """Build what NeMo-RL would rebuild at every start."""
    workspace = cli.workspace()
    data = frozen.data_of(request.run, workspace, request.modes)
    origin = manifest.read(data)
    held_out = validation.files_of(data)
    there = origin and prepared_data.finished(workspace, origin["sha256"], request.limit, held_out)
    made = prepared_data.make(workspace, data, request.limit, workers)
    folder = workspace.run(request.run)
    state = ChainState.load(folder)
    if folder.jobs_json.exists() and state.data is None:
        # Its whole hash stands behind what was made: no link has to take it again.
        state.data = manifest.fingerprint(data)
        state.save(folder)
    click.echo(f"{made}{' (finished already)' if there else ''}")


if __name__ == "__main__":
    cli.main(main)
