"""How a run looks in a terminal: lines of text, one below the other, none of them wrapped."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from omr.cluster import slurm, status
from omr.cluster.status import Row, Status
from omr.reports.watch.looks import Look

BLOCKS, LETTERS = "▁▂▃▄▅▆▇█", "_.-~=+*#"  # low to high, where the terminal has them and where not
CURVE, BAR = 40, 30  # columns
JOBS = 5  # that are shown of a chain; the others are counted
EVENTS = 4


def sparkline(values: Sequence[float], width: int = CURVE, marks: str = BLOCKS) -> str:
    """A curve of at most `width` letters, each the mean of its part of the values; `nan` is left out."""
    finite = [value for value in values if abs(value) < float("inf")]
    if not finite or not width:
        return ""
    width = min(width, len(finite))
    cuts = [round(i * len(finite) / width) for i in range(width + 1)]
    means = [sum(finite[a:b]) / (b - a) for a, b in pairwise(cuts)]
    low, high = min(means), max(means)
    scale = (len(marks) - 1) / (high - low) if high > low else 0.0
    return "".join(marks[round((mean - low) * scale)] for mean in means)


def page(look: Look, marks: str = BLOCKS) -> list[str]:
    """A run on a page of its own."""
    found = look.status
    lines = [f"{found.title}  {found.folder}", *status.table(_few(found.rows))]
    if hidden := _counted(found.rows):
        lines.append(f"  and {hidden}")
    if found.note and found.rows:
        lines.append(f"  {found.note}")
    lines.append(f"  {bar(found, marks)}  saved {found.saved:,}")
    if look.losses:
        first, last = look.losses[0], look.losses[-1]
        lines.append(f"  loss {last:.4f}  {sparkline(look.losses, marks=marks)}  from {first:.4f}")
    if facts := _facts(found):
        lines.append(f"  {', '.join(facts)}")
    if ending := end(look):
        lines.append(f"  {ending}")
    return lines + [f"  {line}" for line in found.story[-EVENTS:]]


def line(look: Look, marks: str = BLOCKS, width: int = CURVE // 2) -> str:
    """A run in one line, among others or in a log; without a `width` it has no curve."""
    found = look.status
    loss = (
        [f"loss {look.losses[-1]:.4f} {sparkline(look.losses, width, marks)}".rstrip()] if look.losses else []
    )
    states = Counter(row.state.lower() for row in found.rows if row.state in slurm.LIVE)
    jobs = [", ".join(f"{count} {state}" for state, count in states.items())] if states else []
    share = 100 * min(found.step, found.steps) / found.steps
    facts = [f"step {found.step:,} of {found.steps:,} ({share:.0f}%)", *loss, *_facts(found), *jobs]
    return f"{found.title}: {', '.join(facts)}"


def end(look: Look) -> str:
    """How a run that does not go on has ended; empty for one that does."""
    found = look.status
    if found.final:
        return f"finished: {found.folder / 'final'}"
    return "" if look.live else "nothing works on it any more; the same make train goes on from what is saved"


def bar(found: Status, marks: str = BLOCKS) -> str:
    """How far the training is: `step 120 of 400 ██████░░ 30%`."""
    share = min(found.step, found.steps) / found.steps
    full, empty = (marks[-1], "░") if marks == BLOCKS else ("#", ".")
    done = int(share * BAR)
    return f"step {found.step:,} of {found.steps:,} {full * done}{empty * (BAR - done)} {share:.0%}"


def _facts(found: Status) -> list[str]:
    """Rate and time left, as far as they are known."""
    facts = [f"{found.step_seconds:.2f} s a step"] if found.step_seconds else []
    if found.tokens_per_second:
        facts.append(f"{found.tokens_per_second:,.0f} tokens/s")
    if found.seconds_left and not found.final:
        facts.append(f"about {status.clock(found.seconds_left)} left")
    return facts


def _few(rows: Sequence[Row]) -> list[Row]:
    """The jobs to show: what runs, waits or went wrong before what ended well, in their own order."""
    telling = sorted(rows, key=lambda row: (row.state not in slurm.ACTIVE, row.state == "COMPLETED"))[:JOBS]
    return [row for row in rows if row in telling]


def _counted(rows: Sequence[Row]) -> str:
    """The others: `12 completed, 180 pending`."""
    shown = _few(rows)
    states = Counter(row.state.lower() for row in rows if row not in shown)
    return ", ".join(f"{count} {state}" for state, count in states.items())
