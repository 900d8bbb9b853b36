#!/usr/bin/env python3
"""`make eval`: accuracy on held-out problems, before a run and after it.

`--folder` asks any other model folder instead, by the prompts of MODEL's corpus.
"""

from json import dumps
from pathlib import Path

import click

from omr import cli, recipe
from omr.evaluation import results, stage


@click.command()
@cli.run_options
@cli.options("PROBLEMS", "MAX_TOKENS", "JSON", "DRY_RUN", "FORCE")
@click.option(
    "--folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Ask this model."
)
def main(
    run: recipe.Run,
    problems: str | None,
    max_tokens: int | None,
    json: bool,
    dry_run: bool,
    force: bool,
    folder: Path | None,
) -> None:
    """Answer held-out problems with the model that a run started from, and with the one it ended with."""
    workspace = cli.workspace()
    file = Path(problems).expanduser() if problems else None
    request = stage.EvalRequest.of(run, workspace, problems=file, max_tokens=max_tokens, folder=folder)
    if dry_run:
        asked = request.problems
        click.echo(
            f"{len(asked.problems):,} problems of {asked.source}, up to {asked.max_tokens:,} tokens each"
        )
        click.echo("\n".join(f"{when:8}{path}" for when, path in request.models.items()))
        return
    finished = None if force else stage.finished(request, workspace)
    result = finished or stage.evaluate(
        request, workspace, force=force, say=lambda line: click.echo(line, err=True)
    )
    if json:
        click.echo(dumps(result.as_json(), indent=2, ensure_ascii=False))
        return
    click.echo(f"{folder or run.title}: {request.problems.source}{' (finished already)' if finished else ''}")
    click.echo("\n".join(results.table(result)))


if __name__ == "__main__":
    cli.main(main)
