#!/usr/bin/env python3
"""`make pipeline`: data, base model, both rounds and their evaluation as one graph of Slurm jobs."""

import click

from omr import cli, recipe
from omr.cluster import pipeline


@click.command()
@cli.options(
    "MODEL", "VARIANT", "NAME", "STEPS", "LIMIT", "MODES", "ENGINE", "OVERRIDES", "NUM_TRAINING_JOBS"
)
@cli.options("NODES", "GPUS", "DRY_RUN")
def main(num_training_jobs: int, dry_run: bool, **words: str | int | None) -> None:
    """Submit everything of a model that is not finished."""
    cli.heed(nodes=words["nodes"], gpus=words["gpus"])
    model = recipe.model(words["model"])
    rounds = [
        cli.the_run(
            model.name, str(number), words["variant"] if number == 2 else None, words["steps"], words["name"]
        )
        for number in model.rounds
    ]
    asked = {
        "engine": words["engine"] or model.engine,
        "modes": recipe.modes(words["modes"]),
        "limit": words["limit"],
        "overrides": words["overrides"],
    }
    workspace = cli.workspace()
    pipeline.make(
        rounds, workspace, asked, links=num_training_jobs, evaluate=True, say=click.echo, dry_run=dry_run
    )


if __name__ == "__main__":
    cli.main(main)
