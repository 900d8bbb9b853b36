#!/usr/bin/env python3
"""`make data-report`: an SFT file's token lengths, duplicates, steps; QUALITY=1: what rows are like."""

import tempfile
from pathlib import Path

import click

from omr import cli, manifest, recipe
from omr.data import request, statistics
from omr.errors import RequestError, choose
from omr.files import Json
from omr.reports import data_report
from omr.reports.quality import found, measure, section
from omr.workspace import Workspace


@click.command()
@cli.options(
    "RECIPE", "DATASET", "ROUND", "VARIANT", "MODES", "NAME", "MODEL", "STATS", "QUALITY", "RAW", "DROP"
)
@cli.options("BENCHMARK", "PROBLEMS", "WORKERS", "LENGTH_TOKENIZER", "JSON", "DRY_RUN", "FORCE")
def main(json: bool, dry_run: bool, force: bool, quality: bool, **words: str | int | None) -> None:
    """Measure a finished SFT file."""
    workspace, corpus = cli.workspace(), recipe.corpus(words["dataset"])
    asked = recipe.round_(words["round"], words["variant"], corpus.name)
    stats = choose("STATS", words["stats"] or "full", ("full", "sample"))
    model = _model(words["model"], corpus.name)
    name, splits = words["name"], recipe.modes(words["modes"], corpus.name)
    path = workspace.data(corpus.name, asked.key, splits, name)
    origin = manifest.read(path)
    if origin is None:
        target = recipe.data_words(corpus.name, asked.number, asked.variant)
        more = f" NAME={name}" if name else ""
        raise RequestError(f"{path}: the data is not there; run make data {target}{more} first")
    page = path.with_suffix(".report.html")
    if dry_run:
        more = f", {found.path_of(path)} and the lists in {path.with_suffix('.quality')}" if quality else ""
        click.echo(f"would read {path} and write {statistics.path_of(path)} and {page}{more}")
        return
    run = recipe.run(model.name, asked.number, asked.variant)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer, given = Path(folder) / "tokenizer.json", words["length_tokenizer"]
        local = Path(given).expanduser() if given else None
        made = None if force else data_report.cached(path, origin, stats, model.sequence_length)
        known = made is not None
        if made is None:
            data_report.write_tokenizer(corpus, local, workspace.raw("tokenizers"), tokenizer)
            counting = {"stats": stats, "workers": data_report.cores(words["workers"])}
            made = data_report.measure(path, origin, tokenizer, longest=model.sequence_length, **counting)
            statistics.write(path, made)
        rows = None
        if quality:
            asked_rows = _request(workspace, origin, words)
            if asked_rows.counts_tokens and not tokenizer.exists():
                data_report.write_tokenizer(corpus, local, workspace.raw("tokenizers"), tokenizer)
            stats = words["stats"] or "sample"
            problems = measure.problems(run, workspace, words["benchmark"], words["problems"])
            rows = measure.finished(asked_rows, origin, stats, problems, tokenizer, force)
    said = data_report.meaning(made, model.batch, run.schedule.steps)
    if not known or rows or not page.exists():
        data_report.write(path, made, said, page, rows or found.of(path, origin))
    if json:
        click.echo((found.path_of(path) if quality else statistics.path_of(path)).read_text().rstrip())
        return
    table = data_report.section(made)
    click.echo("\n".join([*cli.aligned(table.rows, table.header, right=True), *said]))
    if rows:
        click.echo("\n".join(cli.aligned(section.table(rows), section.header(rows), right=True)))
        click.echo(
            f"  lists {found.list_of(path, 'wrong').parent} (make data DROP=… NAME=… leaves such rows out)"
        )
    click.echo(f"  page  {page}{' (finished already)' if known else ''}")


def _model(name: str | None, corpus: str) -> recipe.Model:
    """The row whose batch and length count: MODEL, else the corpus's first."""
    return recipe.model(name) if name else next(m for m in recipe.MODELS.values() if m.corpus == corpus)


def _request(workspace: Workspace, origin: Json, words: dict[str, str | int | None]) -> request.DataRequest:
    """What the file was made with: the user's words, and what its manifest says of the rest."""
    same = ("dataset", "round", "variant", "modes", "name", "raw", "drop", "workers", "length_tokenizer")
    given = {word: words[word] for word in same}
    made = {word: origin["inputs"][word] for word in ("seed", "limit", "bad_rows")}
    return request.request(workspace, **given, **made, allow="rows")


if __name__ == "__main__":
    cli.main(main)
