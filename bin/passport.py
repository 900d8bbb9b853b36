#!/usr/bin/env python3
"""`make passport`: do config, tokenizer, chat template and weights agree at every station of a run?"""

import json as json_

import click

from omr import cli, recipe
from omr.errors import OmrError, RequestError
from omr.reports import journey


@click.command()
@cli.run_options
@cli.options("JSON")
def main(run: recipe.Run, json: bool) -> None:
    """Compare base, patched model, converted steps, average and final model."""
    workspace = cli.workspace()
    stations, faults = journey.stations_of(run, workspace)
    known = journey.departures(run, workspace)
    if json:
        told = {"stations": stations, "faults": [str(fault) for fault in faults], "departures": known}
        click.echo(json_.dumps(told, indent=2))
    elif not stations:
        raise RequestError(f"{run.title} has no station yet; run make model {recipe.words(run.model)} first")
    else:
        notes = [f"known departure: {line} (docs/recipes.md)" for line in known]
        click.echo("\n".join([*journey.table(stations), *(f"FAULT {fault}" for fault in faults), *notes]))
    if faults:
        raise OmrError(f"{len(faults)} of the entries of {run.title} are wrong (see above)")


if __name__ == "__main__":
    cli.main(main)
