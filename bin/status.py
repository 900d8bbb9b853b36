#!/usr/bin/env python3
"""`make status`: each job of a run's chain, how far the training is, what is left."""

import json
from dataclasses import asdict

import click

from omr import cli, settings
from omr.cluster import slurm, status


@click.command()
@cli.options("MODEL", "ROUND", "VARIANT", "NAME", "STEPS", "JSON")
def main(model: str | None, **words: str | int | bool | None) -> None:
    """Show one run, or every run of the workspace that has a chain."""
    workspace = cli.workspace()
    if model:
        run = cli.the_run(model, *(words[name] for name in ("round", "variant", "steps", "name")))
        wanted = [(run, workspace.run(run))]
    else:
        wanted = status.runs(workspace.root)
    limit = slurm.limit(settings.get("TIME"))
    found = [status.of(*one, limit) for one in wanted]
    if words["json"]:
        click.echo(json.dumps([asdict(one) for one in found], indent=2, default=str))
        return
    blocks = [status.lines(one) for one in found]
    if not model and (plain := status.stages(workspace.root)):
        blocks.insert(0, [f"stages  ({workspace.root / 'logs'})", *status.table(plain)])
    if not blocks:
        blocks = [[f"{workspace.root}: no run has a chain; make train RUNNER=slurm submits one"]]
    click.echo("\n\n".join("\n".join(block) for block in blocks))


if __name__ == "__main__":
    cli.main(main)
