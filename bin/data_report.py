#!/usr/bin/env python3
"""`make data-report`: an SFT file's token lengths, duplicates, and what they mean in steps and epochs."""

import tempfile
from pathlib import Path

import click

from omr import cli, manifest, recipe
from omr.data import statistics
from omr.errors import RequestError, choose
from omr.reports import data_report


@click.command()
@cli.options(
    "RECIPE", "DATASET", "ROUND", "VARIANT", "MODES", "NAME", "MODEL", "STATS", "WORKERS", "LENGTH_TOKENIZER"
)
@cli.options("JSON", "DRY_RUN", "FORCE")
def main(json: bool, dry_run: bool, force: bool, **words: str | int | None) -> None:
    """Measure a finished SFT file."""
    workspace, corpus = cli.workspace(), recipe.corpus(words["dataset"])
    asked = recipe.round_(words["round"], words["variant"], corpus.name)
    stats = choose("STATS", words["stats"], ("full", "sample"))
    model = _model(words["model"], corpus.name)
    name, splits = words["name"], recipe.modes(words["modes"], corpus.name)
    path = workspace.data(corpus.name, asked.key, splits, name)
    origin = manifest.read(path)
    if origin is None:
        target = f"make data DATASET={corpus.name} ROUND={asked.number}"
        raise RequestError(f"{path}: the data is not there; run {target} first")
    page = path.with_suffix(".report.html")
    if dry_run:
        click.echo(f"would read {path} and write {statistics.path_of(path)} and {page}")
        return
    made = None if force else data_report.cached(path, origin, stats, model.sequence_length)
    known = made is not None
    if made is None:
        with tempfile.TemporaryDirectory() as folder:
            tokenizer, given = Path(folder) / "tokenizer.json", words["length_tokenizer"]
            local = Path(given).expanduser() if given else None
            data_report.write_tokenizer(corpus, local, workspace.raw("tokenizers"), tokenizer)
            counting = {"stats": stats, "workers": data_report.cores(words["workers"])}
            made = data_report.measure(path, origin, tokenizer, longest=model.sequence_length, **counting)
        statistics.write(path, made)
    steps = recipe.run(model.name, asked.number, asked.variant).schedule.steps
    said = data_report.meaning(made, model.batch, steps)
    if not known or not page.exists():
        data_report.write(path, made, said, page)
    if json:
        click.echo(statistics.path_of(path).read_text().rstrip())
        return
    table = data_report.section(made)
    click.echo("\n".join([*cli.aligned(table.rows, table.header, right=True), *said]))
    click.echo(f"  page  {page}{' (finished already)' if known else ''}")


def _model(name: str | None, corpus: str) -> recipe.Model:
    """The row whose batch and length count: MODEL, else the corpus's first."""
    return recipe.model(name) if name else next(m for m in recipe.MODELS.values() if m.corpus == corpus)


if __name__ == "__main__":
    cli.main(main)
