#!/usr/bin/env python3
"""`make cancel`: end a run's chain or evaluation; what is there stays, and the same command goes on."""

import click

from omr import cli, recipe
from omr.cluster import slurm, submit
from omr.run import notify
from omr.run.chain_state import Submitted
from omr.run.events import log_event


@click.command()
@cli.run_options
@cli.options("DRY_RUN")
def main(run: recipe.Run, dry_run: bool) -> None:
    """Cancel every live job of the run: what waits first, so that nothing starts in between."""
    slurm.need()
    folder = cli.workspace().run(run)
    live = slurm.live_with_comment(str(folder.root))
    ids = list(dict.fromkeys(row.job for row in sorted(live, key=lambda row: row.state != "PENDING")))
    if not ids:
        click.echo(f"{run.title}: nothing is queued or running")
        return
    if dry_run:
        click.echo("scancel " + " ".join(ids))
        return
    slurm.cancel(ids)
    log_event(folder, f"cancelled by make cancel: jobs {', '.join(ids)}")
    for record in submit.run_records(folder):
        submitted = Submitted.load(record)
        if {job.id for job in submitted.jobs} & {*ids}:
            title = f"{run.title} cancelled"
            text = f"{title}: jobs {', '.join(ids)}, by make cancel"
            notify.tell(folder, title, text, folder.event_log, submitted.chain)
    click.echo(
        f"{run.title}: cancelled jobs {', '.join(ids)}; the same command again goes on from what is there"
    )


if __name__ == "__main__":
    cli.main(main)
