"""One page about a run: its data, how it trained, what was saved, how well it answers, whence all came."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from omr import manifest, recipe, records
from omr.data import statistics
from omr.errors import RequestError
from omr.evaluation import results
from omr.evaluation.results import EvalResult
from omr.files import Json, human, read_json, write_text
from omr.recipe import Run
from omr.reports import commands, data_report, journey, pages
from omr.reports.run import accuracy, chain, checkpoints, data, held_out, passports, provenance, training
from omr.reports.run.chain import Story
from omr.reports.run.checkpoints import Standing
from omr.run import events, frozen, metrics, validation
from omr.run.events import Event
from omr.run.frozen import FrozenRun
from omr.workspace import RunFolder, manifest_of

LAST = 50  # steps that the loss of the first lines is the mean of
SPLIT = {"read": int, "kept": int, "dropped": dict[str, int], "rejected": dict[str, int]}
CODE = (pages, commands, data_report, journey)  # beside this package: a change of one draws the page anew


@dataclass(frozen=True)
class Found:
    """What a run has left so far, each file read once."""

    folder: RunFolder
    began: FrozenRun
    origin: Json  # the data's manifest; empty where that is gone
    rows: list[dict]  # metrics, each step once
    log: list[Event]
    story: Story
    saved: list[Standing]
    accuracy: dict[str, EvalResult]  # by mode
    finished: bool

    @property
    def step(self) -> int:
        """The newest step."""
        return max((row["step"] for row in self.rows), default=0)


def look(folder: RunFolder) -> Found | None:
    """All that there is of a run; None where it was not begun. Damage is an OmrError that names the file."""
    began = frozen.read(folder)
    if began is None:
        return None
    rows, log = metrics.read(folder.metrics), events.read(folder)
    story = chain.story(log, rows)
    reached = max((row["step"] for row in rows), default=0)
    return Found(
        folder,
        began,
        _origin(began.data.path),
        rows,
        log,
        story,
        checkpoints.standings(folder, began, log, reached),
        results.read(folder.eval_json),
        manifest.read(folder.final) is not None,
    )


def _origin(data: Path) -> Json:
    """The manifest of an SFT file that may itself be gone; {} where the manifest is, too."""
    file = manifest_of(data)
    if not file.exists():
        return {}
    with records.checked(file, manifest.ANEW):
        origin = read_json(file)
        records.of(Json, origin.get("inputs", {}), "inputs")
        records.of(list[str], origin.get("inputs", {}).get("modes", []), "modes")
        for split, counts in records.of(dict[str, Json], origin.get("splits", {}), "splits").items():
            for key, kind in SPLIT.items():
                records.of(kind, counts[key], f"{split}.{key}")
            records.of(int, counts.get("held_out", 0), f"{split}.held_out")
    return origin


def need(run: Run, folder: RunFolder) -> Found:
    """What `look` finds; a RequestError where the run was not begun."""
    found = look(folder)
    if found is None:
        raise RequestError(
            f"{folder.root}: there is no such run yet; run make train {recipe.run_words(run)} first"
        )
    return found


def write(found: Found, force: bool = False) -> bool:
    """Write report.html; False when the one that is there was made from the same files."""
    page = found.folder.report
    mark = f"sources {_fingerprint(found)}"
    if not force and page.exists() and mark in page.read_text(encoding="utf-8")[-200:]:
        return False
    corpus = found.began.run.model.corpus
    title = f"{found.began.run.title}: {'OpenMathReasoning' if corpus in recipe.SHIPPED else corpus} SFT"
    text = pages.render(title, lead(found), list(_sections(found)), list(_facts(found)), _up(found))
    write_text(page, f"{text.rstrip()}\n<!-- {mark} -->\n")
    return True


def _up(found: Found) -> str:
    """The address of the workspace's page, where there is one."""
    address = Path("..", "..", "..", "report.html")
    return str(address) if (found.folder.root / address).exists() else ""


def lead(found: Found) -> str:
    """A begun run in a sentence: how far it is, and its accuracy before and after."""
    steps = found.began.run.schedule.steps
    if found.finished:
        text = f"Trained {steps:,} steps and averaged."
    else:
        text = f"At step {found.step:,} of {steps:,}, not finished."
    return text + accuracy.sentence(found.accuracy)


def _facts(found: Found) -> Iterator[tuple[str, str]]:
    """The few numbers that the page begins with."""
    yield f"{found.step:,}", f"of {found.began.run.schedule.steps:,} steps"
    losses = [row["loss"] for row in found.rows[-LAST:] if isinstance(row.get("loss"), int | float)]
    if losses:
        yield f"{fmean(losses):.3f}", f"loss, mean of the last {len(losses)} steps"
    times = [row["time"] for row in found.rows if "time" in row]
    if len(times) > 1:
        yield duration(max(times) - min(times)), "from the first step to the last"
    if found.story.stretches:
        yield f"{len(found.story.stretches):,}", "starts"
    yield f"{found.began.data.rows:,}", f"rows, {human(found.began.data.size)}"
    for mode, result in list(found.accuracy.items())[:1]:
        if after := result.models.get("after"):
            yield f"{100 * after.scores[results.ALL].pass1:.1f} %", f"pass@1 ({mode})"


def duration(seconds: float) -> str:
    """`12 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if minutes == 0:
        return f"{left} s"
    if hours == 0:
        return f"{minutes} min {left:02} s"
    return f"{hours} h {minutes_left:02} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _sections(found: Found) -> Iterator[pages.Section]:
    """All of the page, in the order of the work."""
    began, folder = found.began, found.folder
    words = recipe.run_words(began.run)
    yield data.funnel(began, found.origin)
    yield data.token_lengths(began, found.origin)
    yield training.section(began, found.rows, found.story, found.saved)
    losses, models = validation.losses_of(folder), frozen.final_models(folder)
    current = validation.current(losses, began.data.validation, models)
    if held := held_out.section(began, found.rows, current, words):
        yield held
    if befell := training.happenings(found.story, folder.event_log.name):
        yield befell
    yield checkpoints.section(found.saved)
    yield passports.section(folder, began, words)
    yield from accuracy.sections(found.accuracy, began.run.model.name, words)
    yield provenance.section(folder, began, found.origin)
    yield provenance.repeated(began, found.origin, found.accuracy)


def _sources(found: Found) -> list[Path]:
    """The files that a page is made from, those that are there."""
    folder, began = found.folder, found.began
    wanted = [
        folder.run_json,
        manifest_of(began.data.path),
        statistics.path_of(began.data.path),
        manifest_of(began.base.path),
        folder.metrics,
        folder.event_log,
        folder.eval_json,
        folder.validation_json,
        manifest_of(folder.final),
        *(manifest_of(path) for path in sorted(folder.hf.glob("step_*"))),
    ]
    return [path for path in wanted if path.exists()]


def _fingerprint(found: Found) -> str:
    """Hex digest of the page's sources, of the names of its checkpoints, and of the code that draws it."""
    digest = hashlib.sha256(f"{found.saved} {_up(found)}".encode())
    here = [Path(__file__).parent, Path(pages.__file__).parent]
    code = [path for folder in here for path in sorted(folder.iterdir()) if path.is_file()]
    for path in [*_sources(found), *code, *(Path(module.__file__) for module in CODE)]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
