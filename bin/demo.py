#!/usr/bin/env python3
"""`make demo`: the whole recipe in both rounds, told stage by stage: what it does, and how long it took."""

import subprocess
import sys
import time
from dataclasses import dataclass

import click

from omr import cli, recipe
from omr.settings import ROOT


@dataclass(frozen=True)
class Stage:
    """One step of the story: a heading, and the words that docker/run is called with."""

    title: str
    tier: str
    script: str
    args: tuple[str, ...]


def stages(run: recipe.Run) -> list[Stage]:
    """What a round of the demo does, in order; the base model is brought in round 1."""
    number = str(run.round.number)
    of_data = ("--dataset", run.model.corpus, "--round", number)
    of_run = ("--model", run.model.name, "--round", number)
    base = Stage("model: the base model", "data", "bin/model.py", of_run[:2])
    return [
        Stage(f"data: the SFT file of round {number}", "data", "bin/data.py", of_data),
        Stage(f"data-report: what is in the file of round {number}", "data", "bin/data_report.py", of_data),
        *([base] if number == "1" else []),
        Stage(f"train: round {number}, averaged into its final model", "train", "bin/train.py", of_run),
        Stage(f"eval: before and after round {number}", "train", "bin/eval.py", (*of_run, "--before")),
        Stage(f"report: one page about round {number}", "cli", "bin/report.py", of_run),
    ]


def perform(stage: Stage) -> None:
    """Run a stage as its make target would, under a heading; one that fails has said why, and ends all."""
    click.echo(f"\n── {stage.title} ──")
    sys.stdout.flush()
    begin = time.monotonic()
    done = subprocess.run([ROOT / "docker" / "run", stage.tier, stage.script, *stage.args])
    if done.returncode:
        sys.exit(done.returncode)
    click.echo(f"   took {clock(time.monotonic() - begin)}")


def clock(seconds: float) -> str:
    """`0.4 s`, `1 min 05 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02} s"


@click.command()
@cli.options("RECIPE", "MODEL", "DRY_RUN")
def demo(model: str | None, dry_run: bool) -> None:
    """Run every stage of a model's rounds on this machine."""
    begin, row = time.monotonic(), recipe.model(model)
    runs = [recipe.run(row.name, number) for number in row.rounds]
    for run in runs:
        for stage in stages(run):
            perform(stage)
    if dry_run:
        return
    last = cli.workspace().run(runs[-1])
    click.echo(f"\nThe recipe ran in {clock(time.monotonic() - begin)}.")
    click.echo(f"  the report  {last.report}")
    click.echo(f"  the model   {last.final}")
    click.echo("  type next   make recipes   (the real models; README.md goes on from there)")


if __name__ == "__main__":
    cli.main(demo)
