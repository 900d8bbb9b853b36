#!/usr/bin/env python3
"""`make doctor`: what this machine has, what is missing, and the next step."""

from dataclasses import asdict
from json import dumps
from pathlib import Path

import click

from omr import cli
from omr.containers.checks import MISSING
from omr.errors import OmrError, choose
from omr.reports.doctor import checks
from omr.runner import RUNNERS


@click.command()
@cli.options("WORKSPACE", "RUNNER", "JSON")
def doctor(workspace: str, runner: str | None, json: bool) -> None:
    """Look at this machine; exit code 1 when a stage would miss something."""
    if runner:
        choose("RUNNER", runner, RUNNERS)
    found = checks(Path(workspace).expanduser().absolute(), runner)
    if json:
        click.echo(dumps([asdict(check) for check in found], indent=2))
    else:
        click.echo("\n".join(check.line() for check in found))
    if missing := [check.name for check in found if check.state == MISSING]:
        raise OmrError(f"missing here: {', '.join(missing)}; see the advice beside each")


if __name__ == "__main__":
    cli.main(doctor)
