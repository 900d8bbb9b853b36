"""What was found, as people read it: counts by split with their intervals, and the worst overlaps."""

from collections.abc import Iterator

from omr.reports import pages
from omr.reports.quality.found import ALL_ROWS, FINDINGS, Quality, Share


def header(made: Quality) -> list[str]:
    """The table's header: a column for each split."""
    return ["rows", *made.splits]


def table(made: Quality) -> list[list[str]]:
    """A line for each finding: its rows in each split, and their share."""
    looked_at = ["looked at", *(f"{next(iter(shares.values())).of:,}" for shares in made.splits.values())]
    return [
        looked_at,
        *([finding, *(told(shares[finding]) for shares in made.splits.values())] for finding in FINDINGS),
    ]


def told(share: Share) -> str:
    """`12 (0.6%, 0.3–1.1)`: rows, their share, and its 95% interval where a sample was looked at."""
    percent = 100 * share.rows / share.of if share.of else 0.0
    interval = "" if share.whole else ", {:.2g}–{:.2g}".format(*(100 * end for end in share.interval))
    return f"{share.rows:,} ({percent:.2g}%{interval})"


def sections(made: Quality) -> Iterator[pages.Section]:
    """The sections of the page."""
    rows = "Every row" if made.stats == "full" else "All rows of a sample of problems"
    text = (
        f"{rows} looked at; {made.rows_per_second:,.0f} rows a second were read. A share has its 95% interval"
        f" where it is of a sample; {', '.join(ALL_ROWS)} is of every row. Benchmark: {made.benchmark}."
    )
    yield pages.Section("Quality", text, header(made), table(made))
    yield pages.Section("What the findings are", "", (), [[name, means] for name, means in FINDINGS.items()])
    if made.worst:
        yield pages.Section(
            "Problems of the benchmark in the data",
            "The worst: how much of the row's 13-grams the benchmark's problem has, and the other way round.",
            rows=[
                [
                    f"{one.split} {one.shard} {one.row}: {one.of_row:.0%}, {one.of_known:.0%}",
                    *(one.problem, one.known),
                ]
                for one in made.worst
            ],
        )
