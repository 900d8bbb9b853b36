#!/usr/bin/env python3
"""One averaged checkpoint, or all of them, to Hugging Face format: hf/step_<n>. A job of the chain does it.

NeMo-RL's own converter does the work, so for it this runs inside the training image:
    bin/convert.py --model 7b --round 1 --step 7500
DRY_RUN=1 prints its command line anywhere.
"""

import shlex

import click

from omr import cli, recipe
from omr.models import convert
from omr.run.nemo_rl_version import nemo_rl_folder


@click.command()
@cli.run_options
@cli.options("ENGINE", "DRY_RUN")
@click.option("--step", type=int, help="The step to convert (default: all that are averaged).")
def main(run: recipe.Run, step: int | None, engine: str | None, dry_run: bool) -> None:
    """Convert checkpoints of a run."""
    workspace = cli.workspace()
    for number in [step] if step else run.schedule.averaged:
        target = workspace.run(run).hf_step(number)
        if (engine or run.model.engine) == "trl":
            source = convert.checkpoint(workspace.run(run), number)
            if dry_run:
                click.echo(shlex.join(["cp", "-r", str(source), str(target)]))
                continue
            made = convert.from_trl(run, workspace, [number])
        elif dry_run:
            command = convert.command(workspace.run(run), number, target)
            click.echo(f"cd {nemo_rl_folder()} && {shlex.join(command)}")
            continue
        else:
            made = convert.from_nemo_rl(run, workspace, number)
        click.echo(f"{target}{'' if made else ' (finished already)'}")


if __name__ == "__main__":
    cli.main(main)
