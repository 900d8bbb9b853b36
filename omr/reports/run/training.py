"""How a run trained: its numbers over the steps, with its starts and what befell it; and all by the clock."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime

from omr.reports.pages import Section
from omr.reports.pages.plots import Figure, Key, Mark, Panel, Rule, Span, curve_panel
from omr.reports.pages.scales import COLUMNS, Point, Scale, Tick
from omr.reports.run.chain import KINDS, Happening, Story, Stretch
from omr.reports.run.checkpoints import Standing
from omr.run.frozen import FrozenRun

FEW = 60  # marks of a row that are drawn as shapes
RULES = 30  # faults that are drawn through all panels
ROW = 15  # pixels of a row of marks
SHOWN = 20  # happenings that are listed; the event log has all
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
    steps, last = Scale(0, began.run.schedule.steps), rows[-1]["step"]
    rules = _rules([steps.at(h.step) for h in story.happenings], story)
    if curves := list(_curves(rows, steps, rules, story)):
        ends = [last if s.reached is None else s.reached for s in story.stretches]
        spans = [(steps.at(s.start), steps.at(end)) for s, end in zip(story.stretches, ends, strict=True)]
        starts = _starts(spans, [steps.at(h.step) for h in story.happenings], story, rules)
        panels = [*([starts] if spans else []), *curves, _checkpoints(saved, steps, rules)]
        lines = "A point is a step."
        if len(rows) > COLUMNS:
            lines = (
                f"{len(rows):,} steps in {COLUMNS} columns: the line is the median of a column, the band goes"
                " from its smallest number to its largest."
            )
        yield Figure(panels, "optimiser step", f"{_told(story)} {lines}", _keys(story))
    times = [(row["time"], row["step"]) for row in rows if "time" in row]
    if len(times) > 1:
        yield _over_time(times, story)


def _told(story: Story) -> str:
    if not story.stretches:
        return "The event log tells of no start."
    starts = len(story.stretches)
    jobs = f" of {story.jobs:,} jobs" if story.jobs else ""
    bars = "a bar each, from the step that it trained on from to the one that counted after it."
    return f"{starts:,} start{'s' if starts > 1 else ''}{jobs}, {bars}"


def _curves(rows: Sequence[dict], steps: Scale, rules: Sequence[Rule], story: Story) -> Iterator[Panel]:
    """A panel for each number that the engine wrote at two steps or more."""
    speed, seconds = _speed(rows, story)
    for name, points in (
        (LOSS, numbers(rows, "loss")),
        ("Learning rate", numbers(rows, "lr")),
        ("Gradient norm", numbers(rows, "grad_norm")),
        ("Tokens per second", speed),
        ("Seconds per step", seconds),
    ):
        if len(points) > 1:
            # A loss that fell so far is a flat line on any other axis.
            log = name == LOSS and points[-1][1] * 20 < points[0][1]
            yield curve_panel(name, points, steps, rules, log)


def numbers(rows: Sequence[dict], key: str) -> list[Point]:
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
        step, tokens = row["step"], row.get("tokens", row.get("global_valid_toks"))
        fast = row.get("tokens_per_second")
        took = tokens / fast if tokens and fast else row.get("total_step_time")
        follows = before.get("step") == step - 1 and step not in begins
        if took is None and follows and "time" in before and "time" in row:
            took = row["time"] - before["time"]
        if took and took > 0:
            seconds.append((step, took))
            if tokens:
                speed.append((step, tokens / took))
    return speed, seconds


def _rules(places: Sequence[float], story: Story) -> list[Rule]:
    """A line through every panel at each fault; none where they would hide the curves."""
    found = sorted({place for place, h in zip(places, story.happenings, strict=True) if KINDS[h.kind].fault})
    return [Rule(place, style="fault") for place in found] if len(found) <= RULES else []


def _starts(
    spans: Sequence[tuple[float, float]], places: Sequence[float], story: Story, rules: Sequence[Rule]
) -> Panel:
    """Starts as bars in two lanes, and above them a row for each kind of what befell them.

    `spans` and `places` are where the story's stretches and happenings lie, as shares of the x axis.
    """
    counts = Counter(h.kind for h in story.happenings)
    kinds = [kind for kind in KINDS if counts[kind]]
    rows = len(kinds) + LANES
    middle = {kind: (n + 0.5) / rows for n, kind in enumerate(kinds)}
    marks = {}
    for place, h in zip(places, story.happenings, strict=True):
        kind = KINDS[h.kind]
        mark = Mark(place, middle[h.kind], _shape(kind.shape, counts[h.kind]), kind.style, _happened(h))
        marks.setdefault((round(place, 3), h.kind), mark)  # those of one pixel are one
    bars = []
    for n, ((low, high), stretch) in enumerate(zip(spans, story.stretches, strict=True)):
        top, style = (len(kinds) + n % LANES + 0.2) / rows, "s1" if n % LANES else "s1 pale"
        bars.append(Span(low, max(0.0, high - low), top, 0.6 / rows, style, _name(stretch)))
    labels = [Tick(middle[kind], KINDS[kind].label) for kind in kinds]
    labels.append(Tick((len(kinds) + LANES / 2) / rows, "starts"))
    title = "Starts, and what befell them"
    return Panel(title, ROW * rows, y=labels, spans=bars, marks=[*marks.values()], rules=rules)


def _shape(shape: str, count: int) -> str:
    """A thin stroke in place of a shape, where a row has so many that they would lie over each other."""
    return shape if count <= FEW else "stroke"


def _name(stretch: Stretch) -> str:
    to = "" if stretch.reached is None else f" to {stretch.reached:,}"
    return f"{stretch.name}: step {stretch.start:,}{to}"


def _happened(happening: Happening) -> str:
    return f"{KINDS[happening.kind].words}, step {happening.step:,}"


def _keys(story: Story) -> list[Key]:
    """The legend: each kind that is there, and how often."""
    counts = Counter(happening.kind for happening in story.happenings)
    return [
        Key(f"{kind.words}: {counts[name]:,}", kind.style, _shape(kind.shape, counts[name]))
        for name, kind in KINDS.items()
        if counts[name]
    ]


CHECKPOINTS = {
    "averaged": ("averaged", "diamond", "s3"),
    "stands": ("stands", "dot", "s1"),
    "aside": ("set aside", "cross", "s2"),
    "gone": ("removed", "ring", "quiet"),
    "to come": ("to come", "plus", "quiet"),
}


def _checkpoints(saved: Sequence[Standing], steps: Scale, rules: Sequence[Rule]) -> Panel:
    """A row for each state of a checkpoint."""
    counts = Counter(one.state for one in saved)
    states = [state for state in CHECKPOINTS if counts[state]]
    middle = {state: (n + 0.5) / len(states) for n, state in enumerate(states)}
    marks = []
    for one in saved:
        _, shape, style = CHECKPOINTS[one.state]
        shape, text = _shape(shape, counts[one.state]), f"step {one.step:,}: {one.words}"
        marks.append(Mark(steps.at(one.step), middle[one.state], shape, style, text))
    labels = [Tick(middle[state], CHECKPOINTS[state][0]) for state in states]
    return Panel("Checkpoints", ROW * len(states), steps.ticks(5), labels, marks=marks, rules=rules)


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

    last = ordered[-1][0]
    places = [at(h.event.time) for h in story.happenings]
    rules = _rules(places, story)
    spans = [(at(s.event.time), at(s.ended or last)) for s in story.stretches]
    progress = curve_panel("Step", [((time - begin) / size, step) for time, step in ordered], x, rules)
    panels = [*([_starts(spans, places, story, rules)] if spans else []), progress]
    since = f"{datetime.fromtimestamp(begin):%Y-%m-%d %H:%M}"
    held = sum((s.ended or last) - s.event.time for s in story.stretches)
    told = "The same by the clock."
    if held:
        told += f" A start held its machines for {100 * min(1, held / (end - begin)):.0f}% of the time."
    return Figure(panels, f"{unit} since {since}", told, _keys(story))


def happenings(story: Story, log: str) -> Section | None:
    """What befell the training, as a table; None where nothing did. `log` names the file that has all."""
    told = [h for h in story.happenings if h.kind not in ("resumed", "deadline")]  # a chain's every day
    if not told:
        return None
    rows = []
    for h in told[-SHOWN:]:
        when = f"{datetime.fromtimestamp(h.event.time):%Y-%m-%d %H:%M}"
        rows.append([when, f"{h.step:,}", KINDS[h.kind].words, h.who])
    left = len(told) - len(rows)
    note = f"The last {SHOWN} of {len(told):,}; {log} has every one." if left else f"{log} has every line."
    return Section("What befell it", note, ["time", "step", "what", "which"], rows, stacks=True)
