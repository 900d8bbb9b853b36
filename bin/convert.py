#!/usr/bin/env python3
"""One averaged checkpoint, or all of them, to Hugging Face format: hf/step_<n>. A job of the chain does it.

NeMo-RL's own converter does the work, so for it this runs inside the training image:
    bin/convert.py --model 7b --round 1 --step 7500
DRY_RUN=1 prints its command line anywhere.
"""

import shlex

import click

from omr import cli, convert, settings


@click.command()
@cli.options("MODEL", "ROUND", "VARIANT", "NAME", "STEPS", "ENGINE", "DRY_RUN")
@click.option("--step", type=int, help="The step to convert (default: all that are averaged).")
@click.option(
    "--backend",
    type=click.Choice([convert.MEGATRON, convert.DTENSOR]),
    default=convert.MEGATRON,
    help="What NeMo-RL trained with.",
)
def main(
    step: int | None, backend: str, engine: str | None, dry_run: bool, **words: str | int | None
) -> None:
    """Convert checkpoints of a run."""
    run = cli.the_run(**words)
    workspace = cli.workspace()
    home = settings.get("NEMO_RL") or convert.NEMO_RL
    for number in [step] if step else run.schedule.averaged:
        target = workspace.run(run).hf_step(number)
        if (engine or run.model.engine) == "trl":
            source = convert.checkpoint(workspace.run(run), number)
            if dry_run:
                click.echo(shlex.join(["cp", "-r", str(source), str(target)]))
                continue
            made = convert.from_trl(run, workspace, [number])
        elif dry_run:
            words_ = convert.command(workspace.run(run), number, target, backend)
            click.echo(f"cd {home} && {shlex.join(words_)}")
            continue
        else:
            made = convert.from_nemo_rl(run, workspace, number, backend, home=home)
        click.echo(f"{target}{'' if made else ' (finished already)'}")


if __name__ == "__main__":
    cli.main(main)
