#!/usr/bin/env python3
"""`make plan`: what a run would do and cost; every job, command and file, before anything is queued."""

import json
from dataclasses import asdict

import click

from omr import cli, recipe, settings
from omr.cluster import job_environment, plan, slurm, submit


@click.command()
@cli.options("MODEL", "ROUND", "VARIANT", "NAME", "STEPS", "LIMIT", "MODES", "ENGINE", "OVERRIDES")
@cli.options("NODES", "GPUS", "NUM_TRAINING_JOBS", "EVAL", "JSON")
@click.option("--step-seconds", type=float, help="Seconds of a step, where you know them.")
def main(
    step_seconds: float | None, num_training_jobs: int, eval: bool, **words: str | int | bool | None
) -> None:
    """Count, estimate, and show the chain as it would be submitted."""
    run = cli.the_run(*(words[name] for name in ("model", "round", "variant", "steps", "name")))
    workspace = cli.workspace()
    asked = {
        "engine": words["engine"] or run.model.engine,
        "modes": recipe.modes(words["modes"]),
        "limit": words["limit"],
        "overrides": words["overrides"],
    }
    cli.heed(nodes=words["nodes"], gpus=words["gpus"])
    site = job_environment.site(run, workspace)
    limit = slurm.limit(settings.get("TIME"))
    found = plan.numbers(run, workspace, asked, site.nodes, site.gpus, limit, step_seconds)
    if words["json"]:
        click.echo(json.dumps(asdict(found), indent=2))
        return
    click.echo(f"{run.title}\n" + "\n".join(plan.lines(found, run, site.nodes, site.gpus)))
    if not words["steps"] and site.gpus:
        click.echo(f"  first     {plan.smoke(run)}")
    click.echo("")
    submit.train(run, workspace, asked, links=num_training_jobs, evaluate=eval, say=click.echo, dry_run=True)


if __name__ == "__main__":
    cli.main(main)
