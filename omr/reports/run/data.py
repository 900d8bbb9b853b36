"""What a run reads: from the raw rows to those that training sees, and how long they are."""

from collections.abc import Mapping, Sequence

from omr import recipe
from omr.data import statistics
from omr.files import Json, human
from omr.reports import commands, data_report
from omr.reports.pages import Bar, Section
from omr.reports.pages.page import Cell
from omr.run.frozen import FrozenRun


def funnel(began: FrozenRun, origin: Json) -> Section:
    """Rows as published, what the round left out and why, what was kept; `origin` is the data's manifest."""
    splits: Mapping[str, Json] = origin.get("splits", {})
    data, seen = began.data, began.run.schedule.steps * began.run.model.batch
    text = (
        f"{data.path.name}: {data.rows:,} rows, {human(data.size)}."
        f" Training sees {seen:,} rows, each {seen / (began.limit or data.rows):.2f} times."
    )
    if not splits:
        words = recipe.data_words(began.run.model.corpus, began.run.round.number, began.run.round.variant)
        lost = f"What was left out of it is not known here any more: make data {words} FORCE=1."
        return Section("Data", f"{text} {lost}")
    raw, most = "raw rows", sum(counts["read"] for counts in splits.values())
    reasons: dict[str, dict[str, int]] = {}
    for split, counts in splits.items():
        for why, rows in [*counts["dropped"].items(), *counts["rejected"].items()]:
            reasons.setdefault(why, {})[split] = reasons.get(why, {}).get(split, 0) + rows
    for split, counts in splits.items():
        if counts.get("held_out"):
            reasons.setdefault("VALIDATION", {})[split] = counts["held_out"]
    left, lines = most, [_line(raw, {s: c["read"] for s, c in splits.items()}, splits, 0, most, "quiet")]
    for why, of_split in sorted(reasons.items(), key=lambda item: -sum(item[1].values())):
        left -= sum(of_split.values())
        lines.append(_line(f"− {why}", of_split, splits, left, most, "s2"))
    lines.append(_line("kept", {s: c["kept"] for s, c in splits.items()}, splits, 0, most, "s1"))
    header = ["", "rows", "share", "", *([*splits] if len(splits) > 1 else [])]
    return Section("Data", text, header, lines)


def _line(
    what: str, of_split: Mapping[str, int], splits: Sequence[str], start: int, most: int, style: str
) -> list[Cell]:
    """A line of the funnel: rows of each split and of all, their share of the raw ones, and that as a bar."""
    rows = sum(of_split.values())
    each = [f"{of_split[split]:,}" if of_split.get(split) else "–" for split in splits]
    whole = most or 1
    bar = Bar(start / whole, rows / whole, style)
    return [what, f"{rows:,}", f"{100 * rows / whole:.1f} %", bar, *(each if len(each) > 1 else [])]


def token_lengths(began: FrozenRun, origin: Json) -> Section:
    """Tokens of a row in each split, with the length that training cuts at."""
    run, lengths = began.run, statistics.read(began.data.path)
    if lengths and lengths.data == began.data.sha256:
        return data_report.section(lengths, run.model.sequence_length)
    words = commands.of_data(began.data.path, origin)
    words = words or recipe.data_words(run.model.corpus, run.round.number, run.round.variant)
    return Section("Token lengths", f"Not counted yet: make data-report {words}.")
