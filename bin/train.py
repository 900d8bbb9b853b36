#!/usr/bin/env python3
"""`make train`: train a run where RUNNER says, then average and finish it.

The tiny recipe, and a real model with ENGINE=trl, train on this machine; the others as a chain of Slurm jobs,
whose links run this script for the training alone.
"""

import os

import click

from omr import cli, settings
from omr.cluster import submit
from omr.training import stage


@click.command()
@cli.options("MODEL", "ROUND", "VARIANT", "NAME", "STEPS", "LIMIT", "MODES", "ENGINE", "OVERRIDES", "GPUS")
@cli.options("DEADLINE", "NODES", "NUM_TRAINING_JOBS", "LAUNCHER", "EVAL", "VERIFY", "DRY_RUN", "FORCE")
@click.option(
    "--train-only", "--train_only", is_flag=True, help="Neither convert nor average: a link's part."
)
def main(
    num_training_jobs: int,
    launcher: str,
    eval: bool,
    verify: bool,
    dry_run: bool,
    force: bool,
    **words: str | int | None,
) -> None:
    """Train a run of the recipe."""
    cli.heed(nodes=words["nodes"], gpus=words["gpus"])
    run = cli.the_run(*(words[name] for name in ("model", "round", "variant", "steps", "name")))
    said = stage.words(run, *(words[name] for name in ("engine", "modes", "limit", "overrides", "gpus")))
    workspace = cli.workspace()
    if deadline := stage.moment(words["deadline"]):
        os.environ["OMR_DEADLINE"] = str(min(deadline, float(os.environ.get("OMR_DEADLINE") or deadline)))
    if words["train_only"] or stage.is_link():
        stage.link(run, workspace, said)
        return
    where = settings.get("RUNNER") if dry_run else stage.runner(run, said)
    if not force and stage.finished(run, workspace, said):
        click.echo(f"{run.title}: finished already: {workspace.run(run).final}")
    elif where == "slurm" or (where is None and said.engine == "nemo-rl"):
        if force and not dry_run:
            stage.anew(run, workspace)
        chain = {"links": num_training_jobs, "evaluate": eval, "launcher": launcher, "dry_run": dry_run}
        submit.dispatch(run, workspace, said.request, say=click.echo, **chain)
    elif dry_run:
        click.echo("\n".join(stage.describe(run, workspace, said)))
    else:
        stage.here(run, workspace, said, force=force, verify=verify, say=click.echo)


if __name__ == "__main__":
    cli.main(main)
