#!/usr/bin/env python3
"""`make docs`: rewrite the tables of the docs that the code already says."""

import ast
import re
from pathlib import Path

import click
from recipes import table

from omr import cli
from omr.files import write_text
from omr.settings import ROOT


def rooms() -> str:
    """A row for every room: its file and the first line of its docstring."""
    files = sorted([*ROOT.glob("omr/**/*.py"), *ROOT.glob("bin/*.py")])
    lines = []
    for file in files:
        text = ast.get_docstring(ast.parse(file.read_text())) or ""
        if file.name != "__init__.py":
            lines.append(f"| `{file.relative_to(ROOT)}` | {text.splitlines()[0]} |")
    return "\n".join(["| file | what it is |", "| --- | --- |", *lines])


BLOCKS = {"README.md": ("recipes", table), "docs/architecture.md": ("rooms", rooms)}


def fresh(path: Path) -> str:
    """The text of a page with its generated block as the code has it now."""
    word, make = BLOCKS[str(path.relative_to(ROOT))]
    block = f"<!-- {word} -->\n{make()}\n<!-- /{word} -->"
    return re.sub(f"<!-- {word} -->.*<!-- /{word} -->", lambda _: block, path.read_text(), flags=re.DOTALL)


@click.command()
def docs() -> None:
    """Rewrite the generated blocks."""
    for name in BLOCKS:
        write_text(ROOT / name, fresh(ROOT / name))


if __name__ == "__main__":
    cli.main(docs)
