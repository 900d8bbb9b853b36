"""How a run trained: its numbers over the steps, with its starts and what befell it; and the same over time."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime

from omr.reports.pages import Section
from omr.reports.pages.plots import Figure, Key, Mark, Panel, Rule, Span, curve_panel
from omr.reports.pages.scales import COLUMNS, Point, Scale, Tick
from omr.reports.run.chain import KINDS, Happening, Stretch, Story
from omr.reports.run.checkpoints import Standing
from omr.run.frozen import FrozenRun

SHOWN = 40  # happenings that are listed; the event log has all
LOSS = "Training loss (nats per trained token)"
LANES = 2  # starts lie in turn in one and the other, so that two of them are told apart


def section(began: FrozenRun, rows: Sequence[dict], story: Story, saved: Sequence[Standing]) -> Section:
    """Schedule, curves and starts; `rows` are the metrics, each step once."""
    model, schedule = began.run.model, began.run.schedule
    text = (
        f"{schedule.steps:,} steps of {model.batch:,} rows; learning rate {model.lr:g} after"
        f" {schedule.warmup:,} steps of warmup, by cosine to {model.min_lr:g}."
    )
    if not rows:
        return Section("Training", f"{text} No step was written down yet: make train.")
    return Section("Training", text, figures=list(_figures(began, rows, story, saved)))


def _figures(
    began: FrozenRun, rows: Sequence[dict], story: Story, saved: Sequence[Standing]
) -> Iterator[Figure]:
    steps = Scale(0, began.run.schedule.steps)
    rules = _rules(story, steps)
    curves = list(_curves(rows, steps, rules, story))
    if curves:
        bottom = Panel("Checkpoints", 22, x=steps.ticks(5), marks=[_checkpoint(s, steps) for s in saved], rules=rules)
        top = _chain([(steps.at(s.start), steps.at(_end(s, rows)), s) for s in story.stretches], story, steps.at, rules)
        panels = [*([top] if story.stretches else []), *curves, bottom]
        lines = (
            f"{len(rows):,} steps in {COLUMNS} columns: the line is the median of a column, the band goes from"
            " its smallest to its largest number." if len(rows) > COLUMNS else "A point is a step."
        )
        yield Figure(panels, "optimiser step", f"{_told(story)} {lines}", [*_keys(story), *_checkpoint_keys(saved)])
    times = [(row["time"], row["step"]) for row in rows if "time" in row]
    if len(times) > 1:
        yield _over_time(times, story)


def _told(story: Story) -> str:
    if not story.stretches:
        return "The event log tells of no start."
    starts = len(story.stretches)
    jobs = f" of {story.jobs:,} jobs" if story.jobs else ""
    return f"{starts:,} start{'s' if starts > 1 else ''}{jobs}, a bar each, from the step it trained on from to the step that counted after it."


def _curves(rows: Sequence[dict], steps: Scale, rules: Sequence[Rule], story: Story) -> Iterator[Panel]:
    """A panel for each number that the engine wrote at two steps or more."""
    speed, seconds = _speed(rows, story)
    for name, points in (
        (LOSS, _numbers(rows, "loss")),
        ("Learning rate", _numbers(rows, "lr")),
        ("Gradient norm", _numbers(rows, "grad_norm")),
        ("Tokens per second", speed),
        ("Seconds per step", seconds),
    ):
        if len(points) > 1:
            # A loss that fell so far is a flat line on any other axis.
            log = name == LOSS and points[-1][1] * 20 < points[0][1]
            yield curve_panel(name, points, steps, rules, log)


def _numbers(rows: Sequence[dict], key: str) -> list[Point]:
    """A number of each step that has it, where it is finite."""
    found = [(row["step"], row.get(key)) for row in rows]
    return [(step, y) for step, y in found if isinstance(y, int | float) and math.isfinite(y)]


def _speed(rows: Sequence[dict], story: Story) -> tuple[list[Point], list[Point]]:
    """Tokens per second, and seconds per step.

    The one-box engine says how fast it was, NeMo-RL how long a step took and how many tokens it trained.
    Without either, a step took the time since the one before, unless a start lies between.
    """
    begins = {stretch.start + 1 for stretch in story.stretches}
    speed, seconds = [], []
    for before, row in itertools.pairwise([{}, *rows]):
        step, tokens, fast = row["step"], row.get("tokens", row.get("global_valid_toks")), row.get("tokens_per_second")
        took = tokens / fast if tokens and fast else row.get("total_step_time")
        follows = before.get("step") == step - 1 and step not in begins
        if took is None and follows and "time" in before and "time" in row:
            took = row["time"] - before["time"]
        if took and took > 0:
            seconds.append((step, took))
            if tokens:
                speed.append((step, tokens / took))
    return speed, seconds


def _end(stretch: Stretch, rows: Sequence[dict]) -> int:
    return rows[-1]["step"] if stretch.reached is None else stretch.reached


def _rules(story: Story, x: Scale) -> list[Rule]:
    """A line through every panel where something befell the training; those of one pixel are one."""
    found = {(round(x.at(h.step), 3), KINDS[h.kind].rule) for h in story.happenings if KINDS[h.kind].rule}
    return [Rule(at, style=style) for at, style in sorted(found)]


def _chain(
    places: Sequence[tuple[float, float, Stretch]], story: Story, at, rules: Sequence[Rule], by_time: bool = False
) -> Panel:
    """Starts as bars in two lanes, and above them what befell the training."""
    spans = [
        Span(low, max(0.0, high - low), 0.45 + 0.28 * (n % LANES), 0.22, "s1" if n % LANES else "s1 pale", _name(s))
        for n, (low, high, s) in enumerate(places)
    ]
    marks = {}
    for happening in story.happenings:
        place = at(happening.event.time if by_time else happening.step)
        kind = KINDS[happening.kind]
        mark = Mark(place, 0.18, kind.shape, kind.style, _happened(happening))
        marks.setdefault((round(place, 3), happening.kind), mark)
    return Panel("Starts, and what befell them", 54, spans=spans, marks=list(marks.values()), rules=rules)


def _name(stretch: Stretch) -> str:
    to = "" if stretch.reached is None else f" to {stretch.reached:,}"
    return f"{stretch.name}: step {stretch.start:,}{to}"


def _happened(happening: Happening) -> str:
    return f"{KINDS[happening.kind].words}, step {happening.step:,}"


def _keys(story: Story) -> list[Key]:
    """The legend: each kind that is there, and how often."""
    counts = Counter(happening.kind for happening in story.happenings)
    return [Key(f"{k.words} ({counts[name]:,})", k.style, k.shape) for name, k in KINDS.items() if counts[name]]


def _checkpoint(standing: Standing, x: Scale) -> Mark:
    shape, style = CHECKPOINTS[standing.state]
    return Mark(x.at(standing.step), 0.5, shape, style, f"step {standing.step:,}: {standing.words}")


CHECKPOINTS = {
    "averaged": ("diamond", "s3"),
    "stands": ("dot", "s1"),
    "aside": ("cross", "s2"),
    "gone": ("ring", "quiet"),
    "to come": ("plus", "quiet"),
}


def _checkpoint_keys(saved: Sequence[Standing]) -> list[Key]:
    there = {standing.state for standing in saved}
    words = {"averaged": "averaged", "stands": "stands", "aside": "set aside", "gone": "removed", "to come": "to come"}
    return [Key(f"checkpoint {words[s]}", style, shape) for s, (shape, style) in CHECKPOINTS.items() if s in there]


# ---- over time ----

UNITS = (("minutes", 60), ("hours", 3600), ("days", 86_400))


def _over_time(times: Sequence[Point], story: Story) -> Figure:
    """Starts and steps by the clock: what trained, and how long nothing did."""
    ordered = sorted(times)
    begin = min([ordered[0][0], *(s.event.time for s in story.stretches)])
    end = max([ordered[-1][0], *(h.event.time for h in story.happenings)])
    unit, size = next((u for u in reversed(UNITS) if end - begin > 3 * u[1]), UNITS[0])
    x = Scale(0, max((end - begin) / size, 1e-9))

    def at(time: float) -> float:
        return x.at((time - begin) / size)

    rules = [
        Rule(place, style=style)
        for place, style in sorted(
            {(round(at(h.event.time), 3), KINDS[h.kind].rule) for h in story.happenings if KINDS[h.kind].rule}
        )
    ]
    last = ordered[-1][0]
    places = [(at(s.event.time), at(s.ended or last), s) for s in story.stretches]
    points = [((time - begin) / size, step) for time, step in ordered]
    progress = curve_panel("Step", points, x, rules)
    panels = [*([_chain(places, story, at, rules, by_time=True)] if places else []), progress]
    since = f"{datetime.fromtimestamp(begin):%Y-%m-%d %H:%M}"
    idle = ""
    if story.stretches and end > begin:
        idle = f" {100 * min(1, story.seconds / (end - begin)):.0f}% of the time was in a start that has ended."
    return Figure(panels, f"{unit} since {since}", f"The same by the clock.{idle}", _keys(story))


def happenings(story: Story, log: str) -> Section | None:
    """What befell the training, as a table; None where nothing did. `log` names the file that has all."""
    told = [h for h in story.happenings if h.kind != "resumed"]
    if not told:
        return None
    rows = [
        [f"{datetime.fromtimestamp(h.event.time):%Y-%m-%d %H:%M:%S}", f"{h.step:,}", KINDS[h.kind].words, h.who]
        for h in told[-SHOWN:]
    ]
    left = len(told) - len(rows)
    note = f"The last {SHOWN} of {len(told):,}; {log} has every one." if left else f"{log} has every line."
    return Section("What befell it", note, ["time", "step", "", "which"], rows)
