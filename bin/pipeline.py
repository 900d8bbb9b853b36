#!/usr/bin/env python3
"""`make pipeline`: data, base model, both rounds and their evaluation as one graph of Slurm jobs."""

import click

from omr import cli
from omr.cluster import pipeline, submit


@click.command()
@cli.options(
    "RECIPE", "MODEL", "VARIANT", "EDITION", "NAME", "STEPS", *cli.TRAINING, "NUM_TRAINING_JOBS", "DRY_RUN"
)
def main(num_training_jobs: int, dry_run: bool, **words: str | int | None) -> None:
    """Submit everything of a model that is not finished."""
    requests = cli.requests_of_all_rounds(**words)
    how = submit.Submission(num_training_jobs, evaluate=True, dry_run=dry_run)
    pipeline.make(requests, cli.workspace(), how, click.echo)


if __name__ == "__main__":
    cli.main(main)
