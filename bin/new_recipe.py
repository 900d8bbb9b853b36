#!/usr/bin/env python3
"""`make new-recipe NAME=mine`: a recipe file of one's own, a commented copy of another."""

import re
from pathlib import Path

import click

from omr import cli, recipe
from omr.errors import RequestError
from omr.files import write_text
from omr.recipe import lookup, reader

HEAD = """# A recipe of one's own, which began as a copy of {name}. What each table is for: docs/adapt.md.
# `make check-recipe RECIPE={target}` says what is wrong with it. Paths in it begin where this file stands.

"""


@click.command()
@cli.options("NAME", "FROM", "DRY_RUN")
def main(name: str | None, **words: str | bool) -> None:
    """Write NAME.toml where the command is given; a file that is there already stays."""
    if not name or not re.fullmatch(reader.NAME, name) or name in recipe.SHIPPED:
        raise RequestError(
            f"NAME={name or ''} names no recipe; write small letters, digits and _, as NAME=mine"
        )
    source, target = lookup.path_of(words["from"]), Path(f"{name}.toml")
    if target.exists():
        raise RequestError(f"{target.absolute()}: is there already; edit it, or give another NAME")
    found = reader.read(source)
    text = source.read_text(encoding="utf-8")
    if folder := found.corpus.prompt_folder:  # named from where the copied file stands
        text = re.sub(r"^prompts = .*?\".*?\"", lambda _: f'prompts = "{folder}"', text, flags=re.MULTILINE)
    if not words["dry_run"]:
        write_text(target, HEAD.format(name=found.name, target=target) + text)
    click.echo(
        f"{target.absolute()}: a copy of {found.name}; change it, then make check-recipe RECIPE={target}"
    )


if __name__ == "__main__":
    cli.main(main)
