"""`make faults`: the campaign of a seed, and its table; goes on where an earlier one was ended."""

import os
import signal
import sys

import click

from omr import cli
from omr.errors import OmrError, RequestError
from omr.files import write_text

from . import campaign, table


@click.command()
@cli.options("SEED", "COUNT")
def main(seed: int, count: int) -> None:
    """Disturb every stage of the micro recipe on a Slurm of its own, and prove what comes of it."""
    if lack := campaign.missing():
        raise RequestError(f"{lack}; .ci/run installs it")
    folder = cli.workspace().root / "faults"
    record = folder / f"seed-{seed}.jsonl"
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell in the background ignores one
        signal.signal(number, signal.default_int_handler)
    try:
        found = campaign.run(seed, count, record, lambda line: print(line, file=sys.stderr, flush=True))
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr, flush=True)
        os._exit(130)  # the trials' threads wait for jobs that are gone
    text = table.table(found, f"make faults SEED={seed} COUNT={count}")
    write_text(folder / f"seed-{seed}.md", f"{text}\n")
    click.echo(text)
    if bad := [outcome for outcome in found if outcome.faults]:
        raise OmrError(f"{record}: {len(bad)} of {len(found)} faults were not overcome; its lines say more")


if __name__ == "__main__":
    cli.main(main)
