#!/usr/bin/env python3
"""`make recipes`: the recipe table, as the README has it."""

import click

from omr import cli, recipe


def table() -> str:
    """The recipe as a Markdown table, one row per (model, round, variant)."""
    rows = [
        "| MODEL | ROUND | VARIANT | lr | min_lr | TP | CP | steps | warmup | saved every | averaged |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for model in recipe.MODELS.values():
        for row in recipe.of_model(model).rounds.values():
            if row.number in model.rounds:
                plan = recipe.run(model.name, row.number, row.variant).schedule
                cells = [
                    *(model.name, row.number, row.variant or ""),
                    *(f"{model.lr:.0e}".replace("e-0", "e-"), f"{model.min_lr:.0e}".replace("e-0", "e-")),
                    *(model.tensor_parallel, model.context_parallel),
                    *(f"{n:,}" for n in (plan.steps, plan.warmup, plan.save_period)),
                    ", ".join(f"{n:,}" for n in plan.averaged),
                ]
                rows.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(rows)


@click.command()
@cli.options("RECIPE")
def recipes() -> None:
    """Print the recipe table."""
    click.echo(table())


if __name__ == "__main__":
    cli.main(recipes)
