#!/usr/bin/env python3
"""`make eval`: a benchmark answered by a run's final model, beside the published accuracy.

`--folder` asks any other model folder instead, by the prompts of MODEL's corpus. `--part 2/8` answers one of
eight parts, and counts nothing; the whole counts when all are there. RUNNER=slurm submits such parts as jobs,
which run this script, and LAUNCHER=ns leaves it all to NeMo-Skills.
"""

from json import dumps
from pathlib import Path

import click

from omr import cli, recipe, settings
from omr.cluster.evaluation import checks, jobs, ns, submission
from omr.errors import RequestError
from omr.evaluation import results
from omr.evaluation.evaluation import Part
from omr.evaluation.request import EvalRequest, Means, models_of, sampling_of
from omr.evaluation.results import EvalResult
from omr.evaluation.stage import Evaluator

# What decides the answers, beside the run and MODE.
ASKED = ("BENCHMARK", "PROBLEMS", "SAMPLES", "TEMPERATURE", "TOP_P", "MAX_TOKENS", "BEFORE")
MEANS = ("SOLUTIONS", "SANDBOX", "SERVER", "ALLOW")


@click.command()
@cli.run_options
@cli.options("MODE", *ASKED, *MEANS, "SHARDS", "LAUNCHER", "JSON", "DRY_RUN", "FORCE")
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
    shards: int,
    launcher: str,
    json: bool,
    dry_run: bool,
    force: bool,
    folder: Path | None,
    part: Part | None,
) -> None:
    """Ask the model that a run ended with, grade its answers, and count."""
    workspace = cli.workspace()
    sampling = {
        "samples": samples,
        "temperature": float(temperature) if temperature else None,
        "top_p": float(top_p) if top_p else None,
        "max_tokens": max_tokens,
    }
    drawn, modes = sampling_of(run, **sampling), recipe.asked_modes(mode, run.model.corpus)
    if launcher == "ns":
        ns.refuse(run, _given())
        asked = ns.NsEvaluation(
            *(
                modes,
                benchmark or recipe.of_model(run.model).evaluation.benchmark,
                drawn.samples,
                drawn.temperature,
                drawn.top_p,
            ),
            *(drawn.max_tokens, solutions, shards),
        )
        ns.evaluate(run, workspace, asked, click.echo, dry_run)
        return
    checks.refuse_judged(benchmark)
    if settings.get("RUNNER") == "slurm" and part is None:
        if force:
            raise RequestError(
                "FORCE=1: tasks would remove each other's answers; remove this evaluation's folder in"
                f" {workspace.evaluations}, then leave FORCE out"
            )
        if folder is None:
            models_of(run, workspace.run(run), before)
        evaluation = jobs.Evaluation(
            *(modes, min(shards, drawn.samples), server is not None, _given()),
            ("--folder", str(folder.absolute())) if folder else (),
        )
        submission.evaluate(run, workspace, evaluation, click.echo, dry_run)
        return
    request = EvalRequest.of(
        run,
        workspace,
        mode=mode,
        benchmark=benchmark,
        problems=Path(problems).expanduser() if problems else None,
        before=before,
        folder=folder,
        means=Means(server, allow == "server", sandbox, solutions),
        **sampling,
    )
    if dry_run:
        click.echo("\n".join(request.told()))
        return
    with Evaluator(request, workspace, _note, part or Part()) as evaluator:
        for word in request.modes:
            finished = None if force else evaluator.finished(word)
            if finished is None:
                evaluator.ask(word, force)
            if part is None:
                _tell(finished or evaluator.result(word), run, json, bool(finished))


def _note(line: str) -> None:
    click.echo(line, err=True)


def _given() -> dict[str, str]:
    """The words of ASKED and MEANS that the user gave, by name, as the environment has them."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    names = [n for n in (*ASKED, *MEANS) if context.get_parameter_source(n.lower()) is not default]
    values = {name: context.params[name.lower()] for name in names}
    return {name: "1" if value is True else str(value) for name, value in values.items() if value}


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
