#!/usr/bin/env python3
"""`make docs`: rewrite the tables of the docs that the code already says."""

import ast
import re
from functools import partial
from pathlib import Path

import click
from recipes import table

from omr import cli, recipe
from omr.files import write_text
from omr.recipe.editions import EDITIONS, SOURCES
from omr.settings import ROOT
from omr.training.editions import differing


def rooms() -> str:
    """A table for each wing, the core and bin/: their files, each with the first line of its docstring."""
    wings = sorted(
        {file.parent for file in ROOT.glob("omr/**/*.py")}, key=lambda wing: (len(wing.parts), wing)
    )
    return "\n\n".join(_wing(folder) for folder in [ROOT / "bin", *wings])


def _wing(folder: Path) -> str:
    files = sorted(file for file in folder.glob("*.py") if file.name != "__init__.py")
    lines = [f"| `{file.name}` | {_first_line(file)} |" for file in files]
    return "\n".join([f"`{folder.relative_to(ROOT)}/`", "", "| file | what it is |", "| --- | --- |", *lines])


def _first_line(file: Path) -> str:
    return (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n")[0]


def editions() -> str:
    """Every key of NeMo-RL that the editions have differently: each one's value, and where that is from."""
    runs = [recipe.run(name) for name in recipe.shipped("openmathreasoning").models]
    found = {run.model.name: differing(run) for run in runs}
    lines = [f"| key of NeMo-RL | {' | '.join(EDITIONS)} |", "| --- |" + " --- |" * len(EDITIONS)]
    for key in SOURCES:
        cells = (f"{_values(found, key, name)}: {SOURCES[key][name]}" for name in EDITIONS)
        lines.append(f"| `{key}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _values(found: dict[str, dict], key: str, edition: str) -> str:
    """`0.0`, or `1e-06 (1.5b, 7b), 1e-05 (14b, 32b)` where models differ."""
    models: dict[str, list[str]] = {}
    for model, keys in found.items():
        if key in keys:
            models.setdefault(str(keys[key][edition]), []).append(model)
    return ", ".join(
        f"**{value}**" + f" ({', '.join(names)})" * (len(names) < len(found))
        for value, names in models.items()
    )


def on_paper(word: str) -> str:
    """A table of docs/scale.md."""
    from bench import goodput, scale  # an image has bin/ and omr/ alone

    return {**scale.TABLES, **goodput.TABLES}[word]()


ON_PAPER = ("training", "bytes", "metadata", "queue", "growth", "goodput", "sensitivity")
# Page -> its generated blocks, and what makes each.
BLOCKS = {
    "README.md": {"recipes": table},
    "docs/architecture.md": {"rooms": rooms},
    "docs/recipes.md": {"editions": editions},
    "docs/scale.md": {word: partial(on_paper, word) for word in ON_PAPER},
}


def fresh(path: Path) -> str:
    """The text of a page with its generated blocks as the code has them now."""
    text = path.read_text()
    for word, make in BLOCKS[str(path.relative_to(ROOT))].items():
        block = f"<!-- {word} -->\n{make()}\n<!-- /{word} -->"
        text = re.sub(f"<!-- {word} -->.*<!-- /{word} -->", lambda _, new=block: new, text, flags=re.DOTALL)
    return text


@click.command()
def docs() -> None:
    """Rewrite the generated blocks."""
    for name in BLOCKS:
        write_text(ROOT / name, fresh(ROOT / name))


if __name__ == "__main__":
    cli.main(docs)
