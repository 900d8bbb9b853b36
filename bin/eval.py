#!/usr/bin/env python3
"""`make eval`: a benchmark answered by a run's final model, beside the published accuracy.

`--folder` asks any other model folder instead, by the prompts of MODEL's corpus. `--part 2/8` answers one of
eight parts, and counts nothing; the whole counts when all are there.
"""

from json import dumps
from pathlib import Path

import click

from omr import cli, recipe
from omr.evaluation import results
from omr.evaluation.evaluation import Part
from omr.evaluation.request import EvalRequest, Means
from omr.evaluation.results import EvalResult
from omr.evaluation.stage import Evaluator


@click.command()
@cli.run_options
@cli.options("MODE", "BENCHMARK", "PROBLEMS", "SAMPLES", "TEMPERATURE", "TOP_P", "MAX_TOKENS", "BEFORE")
@cli.options("SOLUTIONS", "SANDBOX", "SERVER", "ALLOW", "JSON", "DRY_RUN", "FORCE")
@click.option(
    "--folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Ask this model."
)
@click.option("--part", callback=lambda _, __, text: Part.of_text(text) if text else None)
def main(
    run: recipe.Run,
    mode: str,
    benchmark: str | None,
    problems: str | None,
    samples: int | None,
    temperature: str | None,
    top_p: str | None,
    max_tokens: int | None,
    before: bool,
    solutions: str,
    sandbox: str,
    server: str | None,
    allow: str | None,
    json: bool,
    dry_run: bool,
    force: bool,
    folder: Path | None,
    part: Part | None,
) -> None:
    """Ask the model that a run ended with, grade its answers, and count."""
    workspace = cli.workspace()
    request = EvalRequest.of(
        run,
        workspace,
        mode=mode,
        benchmark=benchmark,
        problems=Path(problems).expanduser() if problems else None,
        before=before,
        folder=folder,
        means=Means(server, allow == "server", sandbox, solutions),
        samples=samples,
        temperature=float(temperature) if temperature else None,
        top_p=float(top_p) if top_p else None,
        max_tokens=max_tokens,
    )
    if dry_run:
        click.echo("\n".join(request.told()))
        return
    with Evaluator(request, workspace, lambda line: click.echo(line, err=True)) as evaluator:
        for word in request.modes:
            finished = None if force else evaluator.finished(word)
            if finished is None:
                evaluator.ask(word, part or Part(), force)
            if part is None:
                _tell(finished or evaluator.result(word), run, json, bool(finished))


def _tell(result: EvalResult, run: recipe.Run, json: bool, finished: bool) -> None:
    """Print a mode's result."""
    if json:
        click.echo(dumps(result.as_json(), indent=2, ensure_ascii=False))
        return
    drawn, engine = result.inputs.sampling, result.inputs.engine
    click.echo(
        f"{run.title}: {result.benchmark}, {result.mode}, {drawn.samples} samples, temperature"
        f" {drawn.temperature:g}, by {engine.name} {engine.version}"
        + (" (finished already)" if finished else "")
    )
    rows = results.table(result, run.model.name)
    click.echo("\n".join(cli.aligned(rows, results.header(result), right=True)))
    click.echo("\n".join(results.notes(result)), nl=any(True for _ in results.notes(result)))


if __name__ == "__main__":
    cli.main(main)
