#!/usr/bin/env python3
"""`make engine-check NEMO_RL_SOURCE=folder`: what we rely on in a NeMo-RL, held against its source."""

from pathlib import Path

import click

from omr import cli
from omr.errors import OmrError, RequestError
from omr.training.nemo_rl import contract


@click.command()
@cli.options("NEMO_RL_SOURCE")
def main(nemo_rl_source: str | None) -> None:
    """Check a checkout against the row of its version."""
    if not nemo_rl_source:
        raise RequestError("NEMO_RL_SOURCE is not set; name a checkout of NeMo-RL")
    source = Path(nemo_rl_source).expanduser().absolute()
    row = contract.row_of(source)
    found = list(contract.clauses(source, row))
    for clause in found:
        click.echo(f"{'fix' if clause.fault else 'ok ':3}  {clause.name:<10} {clause.fault or clause.holds}")
    if faults := [clause.name for clause in found if clause.fault]:
        raise OmrError(f"{source}: NeMo-RL {row.tag} is not what its row says: {', '.join(faults)}")
    click.echo(f"NeMo-RL {row.tag} is what its row in omr/run/nemo_rl_version.py says")


if __name__ == "__main__":
    cli.main(main)
