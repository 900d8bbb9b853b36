#!/usr/bin/env python3
"""`make passport`: do config, tokenizer, chat template and weights agree at every station of a run?"""

import json as json_

import click

from omr import cli
from omr.errors import OmrError, RequestError
from omr.models import passport


@click.command()
@cli.options("MODEL", "ROUND", "VARIANT", "NAME", "STEPS", "JSON")
def main(model: str, round: str, variant: str, name: str, steps: int, json: bool) -> None:
    """Compare base, patched model, converted steps, average and final model."""
    run, workspace = cli.the_run(model, round, variant, steps, name), cli.workspace()
    stations, faults = passport.journey(run, workspace)
    if json:
        click.echo(json_.dumps({"stations": stations, "faults": [str(fault) for fault in faults]}, indent=2))
    elif not stations:
        raise RequestError(f"{run.title} has no station yet; run make model MODEL={run.model.name} first")
    else:
        click.echo("\n".join([*passport.table(stations), *(f"FAULT {fault}" for fault in faults)]))
    if faults:
        raise OmrError(f"{len(faults)} of the entries of {run.title} are wrong (see above)")


if __name__ == "__main__":
    cli.main(main)
