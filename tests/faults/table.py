"""Outcomes for people: a line each while they come, and the table of a campaign."""

from .proof import Outcome
from .stages import STAGES

COLUMNS = (
    *("family", "faults", "stages", "borne", "stopped, then ended well"),
    *("detected s", "recovered s", "false alarms", "did not hold"),
)


def line(outcome: Outcome) -> str:
    """An outcome for a terminal."""
    seconds = [
        f"{word} {value:.1f} s"
        for word, value in (("detected", outcome.detected), ("recovered", outcome.recovered))
        if value is not None
    ]
    said = "; ".join([*seconds, *(["FALSE ALARM"] if outcome.false_alarm else []), *outcome.faults])
    return f"{outcome.number:>4}  {outcome.stage:<8} {outcome.family:<8} {outcome.fault}: {said or 'borne'}"


def table(found: list[Outcome], command: str) -> str:
    """The outcomes as a table: a row for each family and stage, and what was found."""
    rows = [f"`{command}`", "", f"| {' | '.join(COLUMNS)} |", "| --- " * len(COLUMNS) + "|"]
    for family in dict.fromkeys(outcome.family for outcome in found):
        rows.append(_row(family, [outcome for outcome in found if outcome.family == family]))
    rows.append(_row("all", found))
    return "\n".join(rows)


def _row(family: str, mine: list[Outcome]) -> str:
    stages = sorted({outcome.stage for outcome in mine}, key=list(STAGES).index)
    well = [outcome for outcome in mine if not outcome.faults]
    cells = [
        family,
        str(len(mine)),
        ", ".join(stages) if family != "all" else "all" if len(stages) == len(STAGES) else str(len(stages)),
        str(sum(not outcome.noted for outcome in well)),
        str(sum(outcome.noted for outcome in well)),
        _spread([outcome.detected for outcome in mine]),
        _spread([outcome.recovered for outcome in mine]),
        str(sum(outcome.false_alarm for outcome in mine)),
        str(len(mine) - len(well)),
    ]
    return "| " + " | ".join(cells) + " |"


def _spread(values: list[float | None]) -> str:
    """Median and greatest of the seconds that there are."""
    known = sorted(value for value in values if value is not None)
    return f"{known[len(known) // 2]:.1f} ({known[-1]:.1f})" if known else "-"
