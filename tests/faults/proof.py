"""What has to hold after a fault: the same bytes, nothing lost or made again, nothing left behind."""

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

from .stages import RUN, products
from .trial import Trial
from .user import Refused

FINISHED = "finished already"  # says a command that has nothing to do
LEFT = re.compile(r"(tmp|old)_step_\d+|\..*\.(tmp|old|partial|\d+\.tmp)|\.hub-.*|.*\.part|\.(stop|ray)-.*")


@dataclass
class Outcome:
    """What came of a trial."""

    number: int
    family: str
    fault: str
    stage: str
    detected: float | None = None  # seconds from the fault until a job ended for it or a command refused
    recovered: float | None = None  # seconds from the first command after it to a finished stage
    noted: bool = False  # it ended in an error, which was mended by running again
    false_alarm: bool = False  # refused where nothing was wrong any more
    faults: list[str] = field(default_factory=list)  # what did not hold
    detail: str = ""
    how: str = ""  # of a damaged file: which, and what became of it


def finished(root: Path) -> dict[str, tuple[int, int]]:
    """What stands under a final name, with size and time: nothing of it may be lost or made again."""
    found = {}
    patterns = ("data/*.jsonl", "models/*/*", "cache/data/*/*", f"{RUN}/checkpoints/step_*/*")
    for pattern in (*patterns, f"{RUN}/hf/step_*/*", f"{RUN}/final/*"):
        for path in root.glob(pattern):
            whole = (path.parent / "manifest.json").exists() or (path.parent / "complete.json").exists()
            if path.suffix == ".jsonl":
                whole = path.with_suffix(".manifest.json").exists()
            relative = path.relative_to(root)
            if whole and not any(part.startswith(".") for part in relative.parts):
                found[str(relative)] = (path.stat().st_size, path.stat().st_mtime_ns)
    return found


def repeat(trial: Trial, *more: str, **env: str) -> None:
    """The same command once more: it says that it is finished, and leaves all as it is.

    An AssertionError says what does not hold.
    """
    made, before, known = finished(trial.root), trial.jobs, trial.user.said().count(FINISHED)
    try:
        jobs = trial.user.submit(trial.stage, *more, **env)
    except Refused as error:
        raise AssertionError(f"the same command was refused when it was run again: {error}") from None
    if jobs != before:  # a finished training submits none
        states = trial.user.wait(jobs)
        assert {*states.values()} == {"COMPLETED"}, f"the same command, run again, ended with {states}"
    said = [trial.user.told, trial.user.said()]
    assert sum(text.count(FINISHED) for text in said) > known, f'run again, it did not say "{FINISHED}"'
    now = finished(trial.root)
    changed = [name for name, facts in made.items() if now.get(name) != facts]
    assert not changed, f"made again by the same command: {', '.join(changed)[:200]}"
    trial.repeated = True


def judge(trial: Trial, outcome: Outcome, before: dict[str, tuple[int, int]]) -> None:
    """Run the same command again, at most twice, and note what does not hold afterwards."""
    began = time.monotonic()
    outcome.recovered = trial.recovered
    if not trial.whole():
        outcome.noted = True
        for attempt in (1, 2):
            trial.words.clear()
            if trial.attempt():
                break
            if attempt == 1:
                outcome.false_alarm, outcome.detail = (
                    True,
                    "\n".join([*trial.words, trial.user.said()])[-2500:],
                )
        outcome.recovered = time.monotonic() - began
    elif not trial.repeated:
        repeat(trial)
    wanted, there = trial.undisturbed.products[trial.stage.name], products(trial.root, trial.stage)
    if different := sorted(n for n in {*wanted, *there} if wanted.get(n) != there.get(n)):
        outcome.faults.append(f"other bytes than undisturbed: {', '.join(different)[:200]}")
    after = finished(trial.root)
    for name, facts in before.items():
        if trial.damaged is None and name in after and after[name] != facts:
            outcome.faults.append(f"made again though it was finished: {name}")
        if name not in after and "/checkpoints/" not in name:
            outcome.faults.append(f"lost: {name}")
    averaged = (12, 16, 20, 24) if trial.stage.name in ("train", "convert", "average") else ()
    for step in averaged:
        if not (trial.root / RUN / f"checkpoints/step_{step}/complete.json").exists():
            outcome.faults.append(f"lost: step_{step}")
    left = [str(p.relative_to(trial.root)) for p in trial.root.rglob("*") if LEFT.fullmatch(p.name)]
    if left:
        outcome.faults.append(f"left behind: {', '.join(sorted(left))[:200]}")
    said = "\n".join([trial.user.said(), *trial.words])
    if "Traceback (most recent call last)" in said:
        at = said.index("Traceback (most recent call last)")
        outcome.faults.append("a traceback")
        outcome.detail = said[at : at + 3000]
    if outcome.faults and not outcome.detail:
        outcome.detail = said[-2500:]
    held = trial.cluster.call("squeue", "-h", "-t", "PENDING,RUNNING", "-o", "%k", check=False).split()
    if any(word.startswith(str(trial.root)) for word in held):
        outcome.faults.append("a job is left in the queue")
