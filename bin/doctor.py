#!/usr/bin/env python3
"""`make doctor`: what this machine has and lacks; with FOR=: what would stop or waste that request."""

import os
from dataclasses import asdict
from json import dumps
from pathlib import Path

import click

from omr import cli
from omr.containers.checks import FIX
from omr.errors import OmrError, choose
from omr.reports.doctor import judge, request
from omr.runner import RUNNERS
from omr.workspace import Workspace

DATA = (
    *("DATASET", "RAW", "SEED", "WORKERS", "MEMORY", "TOKENIZER", "LENGTH_TOKENIZER"),
    *("BAD_ROWS", "ALLOW", "DROP", "VALIDATION"),
)


@click.command()
@cli.options("FOR", "ASK", "JSON", "DRY_RUN", "WORKSPACE", "RUNNER")
@cli.options("RECIPE", *cli.RUN, *cli.TRAINING, *DATA, "NUM_TRAINING_JOBS")
def doctor(
    workspace: str,
    runner: str | None,
    json: bool,
    num_training_jobs: int,
    ask: bool,
    dry_run: bool,
    **words: str | int | None,
) -> None:
    """Look; exit code 1 when something would stop what is asked for."""
    if runner:
        os.environ["RUNNER"] = choose("RUNNER", runner, RUNNERS)
    root = Path(workspace).expanduser().absolute()
    target = words.pop("for")
    if target:
        data = {name.lower(): words.pop(name.lower()) for name in DATA}
        asked = request.make(target, Workspace(root), words, data, num_training_jobs, ask and not dry_run)
        found = judge.of_request(asked)
    else:
        found = judge.of_machine(root, runner)
    if json:
        click.echo(dumps([asdict(check) for check in found], indent=2))
    else:
        click.echo("\n".join(check.line() for check in found))
    if faults := [check.name for check in found if check.state == FIX]:
        raise OmrError(f"to fix: {', '.join(faults)}; the advice stands beside each")


if __name__ == "__main__":
    cli.main(doctor)
