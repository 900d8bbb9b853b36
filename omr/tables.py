"""Tables for people: the same plain text in a terminal and in a pipe, never wrapped, cropped or coloured."""

import io
from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], header: Sequence[str] = (), right: bool = False) -> list[str]:
    """The rows in columns two blanks apart, a string a line, under `header` where there is one; `right` puts
    every cell to the right, as numbers stand."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for _ in rows[0] if rows else header:
        table.add_column(justify="right" if right else "left", no_wrap=True)
    for row in [header, *rows] if header else rows:
        table.add_row(*map(Text, row))  # text, so that [brackets] are no markup
    page = io.StringIO()
    Console(file=page, width=100_000, color_system=None).print(table)
    return [line.rstrip() for line in page.getvalue().splitlines()]
