#!/usr/bin/env python3
"""`make publish`: a final model with its card on the hub, whole or not at all; private unless PUBLIC=1."""

import click

from omr import cli, recipe
from omr.errors import RequestError, choose
from omr.files import human
from omr.reports.publishing import publication, upload


@click.command()
@cli.run_options
@cli.options("REPO", "PUBLIC", "ALLOW", "DRY_RUN", "FORCE")
def main(
    run: recipe.Run, repo: str | None, public: bool, allow: str | None, dry_run: bool, force: bool
) -> None:
    """Bring final/ to a repository of the hub."""
    if not repo:
        raise RequestError("REPO is not set; name the repository, REPO=owner/name")
    if allow:
        choose("ALLOW", allow, (publication.UNEVALUATED,))
    made = publication.prepare(run, cli.workspace(), repo, allow)
    if dry_run:
        rows = [[human(item.size), item.name] for item in made.items]
        click.echo("\n".join(cli.aligned([*rows, [human(made.size), "together"]])))
        click.echo(f"would publish these as {repo}, {'open to everybody' if public else 'private'}")
    for name in made.left_out:
        click.echo(f"{name} of final/ is no part of the model and stays here")
    if dry_run:
        return
    done = upload.publish(made, public, force)
    what = f"{done.sent} files sent" if done.sent else "everything was there already"
    click.echo(f"{run.title}: {done.url} ({human(made.size)}, {what})")
    if done.private:
        click.echo("  private; the same with PUBLIC=1 opens it to everybody")


if __name__ == "__main__":
    cli.main(main)
