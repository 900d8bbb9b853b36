"""A campaign: which faults befall which stages, several trials at a time, each written down at once."""

import json
import random
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from ..cluster.slurm.cluster import Cluster
from . import trial, undisturbed
from .families import FAMILIES
from .families.base import Fault
from .trial import STAGES, Missed, Outcome, Trial

NODES = 3  # trials at a time: each has a job, and each node one core
Say = Callable[[str], None]


@dataclass(frozen=True)
class Planned:
    """A trial that is to be made."""

    number: int
    family: str
    fault: Fault
    stage: str
    seed: str


def plan(seed: int, count: int) -> list[Planned]:
    """`count` trials: the families in turn, each family's faults and stages in an order that `seed` decides.

    A longer campaign of the same seed begins with the shorter one.
    """
    dice = random.Random(seed)
    decks = {family: _deck(faults, dice) for family, faults in FAMILIES.items() if faults}
    turns = [family for _ in range(count) for family in decks][:count]
    drawn = [(family, *next(decks[family])) for family in turns]
    return [
        Planned(number, family, fault, stage, f"{seed}-{number}")
        for number, (family, fault, stage) in enumerate(drawn, 1)
    ]


def _deck(faults: tuple[Fault, ...], dice: random.Random) -> Iterator[tuple[Fault, str]]:
    """Every fault with every stage of its own before any comes twice; faults and stages take turns."""
    pairs = [(fault, stage) for fault in faults for stage in fault.stages]
    while True:
        dice.shuffle(pairs)
        left = list(pairs)
        seen: dict[str, int] = {}
        while left:
            least = min(left, key=lambda pair: seen.get(pair[1], 0) + seen.get(pair[0].name, 0))
            left.remove(least)
            for word in (least[1], least[0].name):
                seen[word] = seen.get(word, 0) + 1
            yield least


def outcomes(record: Path) -> list[Outcome]:
    """What a campaign's record has; a line that a kill cut off is passed over."""
    found = {}
    for line in record.read_text().splitlines() if record.exists() else ():
        try:
            outcome = trial.load(line)
        except (ValueError, TypeError):
            continue
        found[outcome.number] = outcome
    return [found[number] for number in sorted(found)]


def run(seed: int, count: int, record: Path, say: Say) -> list[Outcome]:
    """Make the trials that `record` does not have yet; returns the outcomes of all of them."""
    known = {outcome.number for outcome in outcomes(record)}
    todo = [planned for planned in plan(seed, count) if planned.number not in known]
    if todo:
        record.parent.mkdir(parents=True, exist_ok=True)
        # Below /tmp, because Slurm's paths are short.
        with tempfile.TemporaryDirectory(prefix="omr-faults-", ignore_cleanup_errors=True) as folder:
            cluster = Cluster(Path(folder) / "s", nodes=NODES, cpus=1)
            cluster.start()
            try:
                _run(cluster, Path(folder), todo, record, say)
            finally:
                cluster.stop()
    return [outcome for outcome in outcomes(record) if outcome.number <= count]


def _run(cluster: Cluster, folder: Path, todo: list[Planned], record: Path, say: Say) -> None:
    calm = undisturbed.make(cluster, folder / "undisturbed", say)
    writing = threading.Lock()

    def one(planned: Planned) -> None:
        outcome = _try(cluster, calm, folder / f"t{planned.number}", planned)
        with writing, record.open("a") as lines:
            lines.write(json.dumps(asdict(outcome)) + "\n")
        say(line(outcome))

    pool = ThreadPoolExecutor(NODES)
    try:
        for done in [pool.submit(one, planned) for planned in todo]:
            done.result()
    finally:  # interrupted: what is under way is not waited for, and is made again by the next campaign
        pool.shutdown(wait=False, cancel_futures=True)


def _try(cluster: Cluster, calm: undisturbed.Undisturbed, root: Path, planned: Planned) -> Outcome:
    """A trial; once more, and sooner, where the stage was over before the fault could strike."""
    outcome = Outcome(planned.number, planned.family, planned.fault.name, planned.stage)
    for sooner in (1.0, 0.6, 0.3, 0.1):
        attempt = Trial(
            cluster, calm, root, STAGES[planned.stage], random.Random(planned.seed), sooner=sooner
        )
        try:
            return trial.run(attempt, outcome, planned.fault.inflict)
        except Missed:
            continue
    outcome.faults.append("the stage was always over before the fault")
    return outcome


def line(outcome: Outcome) -> str:
    """An outcome for a terminal."""
    seconds = [
        f"{word} {value:.1f} s"
        for word, value in (("detected", outcome.detected), ("recovered", outcome.recovered))
        if value is not None
    ]
    said = "; ".join([*seconds, *(["FALSE ALARM"] if outcome.false_alarm else []), *outcome.faults])
    return f"{outcome.number:>4}  {outcome.stage:<8} {outcome.family:<8} {outcome.fault}: {said or 'borne'}"


COLUMNS = (
    *("family", "faults", "stages", "borne", "stopped, then ended well"),
    *("detected s", "recovered s", "false alarms", "did not hold"),
)


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
