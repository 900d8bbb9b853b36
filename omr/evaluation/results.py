"""What an evaluation found: each model's numbers by subset, in eval.json and as a table for the terminal."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from omr import records
from omr.errors import OmrError
from omr.evaluation.grading.rules import Verdict
from omr.evaluation.metrics import Graded, Score, score, standard_errors
from omr.evaluation.problems import Problem
from omr.evaluation.published import published
from omr.evaluation.request import Sampling
from omr.evaluation.servers.base import Engine
from omr.files import Json, read_json, write_json

ALL = "all"  # the problems of every subset together
DIFFERENCES_SHOWN = 5  # under the table of the terminal
DIFFERENCES_KEPT = 200  # in eval.json; the files of answers and verdicts have all
LONGEST_SHOWN = 60  # characters of an answer there
LONGEST_KEPT = 500  # and in eval.json


@dataclass(frozen=True)
class EvalInputs:
    """What decides an evaluation's numbers."""

    problems: str  # hex digest
    prompts: str  # hex digest of what the prompts are made from
    models: dict[str, str]  # before, after or alone -> hex digest of the model
    sampling: Sampling
    engine: Engine
    grader: str  # rules.identity()
    sandbox: str | None = None  # of tir: what ran the code
    solutions: str | None = None  # of genselect: the mode whose solutions were compared


@dataclass(frozen=True)
class Difference:
    """An answer that one of the two verdicts takes for right, and the other does not."""

    problem: int  # its number, from 1
    sample: int
    expected: str
    given: str  # what stands in the box
    published: str
    strict: str

    @classmethod
    def of(
        cls, number: int, sample: int, problem: Problem, given: str | None, verdict: Verdict
    ) -> "Difference":
        """Of one sample's answer to the problem of this number."""
        texts = (problem.expected_answer[:LONGEST_KEPT], (given or "")[:LONGEST_KEPT])
        return cls(number, sample, *texts, str(verdict.published), str(verdict.strict))


@dataclass(frozen=True)
class ModelResult:
    """How a model answered."""

    model: str  # its folder
    answers: str  # the folder of its answers and their verdicts
    scores: dict[str, Score]  # by subset, and of all
    differences: list[Difference]  # between the published and the strict verdict
    compared: dict[str, Score] = field(default_factory=dict)  # of genselect: the solutions' own, by subset


def model_result(
    problems: Sequence[Problem],
    graded: Sequence[Sequence[Graded]],
    differences: list[Difference],
    paths: tuple[Path, Path],
) -> ModelResult:
    """The numbers of a model's graded samples, a sequence for each problem.

    `paths` are those of the model and of its answers.
    """
    subsets = list(dict.fromkeys(problem.subset for problem in problems if problem.subset))
    scores = {
        subset: score(
            [rows for problem, rows in zip(problems, graded, strict=True) if problem.subset == subset]
        )
        for subset in subsets
    }
    scores[ALL] = score(graded)
    return ModelResult(str(paths[0]), str(paths[1]), scores, differences[:DIFFERENCES_KEPT])


@dataclass(frozen=True)
class EvalResult:
    """What one mode found."""

    benchmark: str
    mode: str
    inputs: EvalInputs
    models: dict[str, ModelResult]  # by the names in `inputs.models`

    def as_json(self) -> Json:
        """Its part of eval.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Json) -> "EvalResult":
        """From what `as_json` gave; anything else is a ValueError."""
        result = records.of(cls, values)
        if any(ALL not in model.scores for model in result.models.values()):
            raise records.Odd(f"a model has no score of {ALL}")
        return result


def read(path: Path) -> dict[str, EvalResult]:
    """What eval.json says, by mode; without a mode that is damaged, and empty where the file is."""
    found = {}
    with contextlib.suppress(OmrError):
        for mode, values in read_json(path).items() if path.exists() else ():
            with contextlib.suppress(ValueError):
                found[mode] = EvalResult.from_json(values)
    return found


def write(path: Path, result: EvalResult) -> None:
    """Put a mode's result into eval.json, beside those of the others."""
    others = {mode: other.as_json() for mode, other in read(path).items()}
    write_json(path, {**others, result.mode: result.as_json()})


COLUMNS = ("problems", "pass@1", "±", "majority", "pass@k", "no answer", "cut", "tokens", "exact")


def table(result: EvalResult, model: str) -> list[list[str]]:
    """Cells of a line for each model and subset, under COLUMNS; published numbers where there are any.

    `model` is the row of the recipe table.
    """
    rows = []
    for when, found in result.models.items():
        for subset, numbers in found.scores.items():
            if len(found.scores) == 2 and subset == ALL:
                continue  # the only subset is all there is
            rows.append([when, subset, *_cells(numbers)])
            if subset in found.compared:  # what a choice among them has to beat
                rows.append(["", f"  {result.inputs.solutions} alone", *_cells(found.compared[subset])])
            if when == "after" and (known := published(model, result.mode, result.benchmark, subset)):
                pass1 = "" if known.pass1 is None else f"{known.pass1:.1f}"
                away = standard_errors(numbers, known.pass1 / 100) if known.pass1 is not None else None
                apart = "" if away is None else f"{away:+.1f} standard errors"
                rows.append(
                    ["", "  published", "", pass1, "", f"{known.majority:.1f}", "", "", "", "", apart]
                )
    return rows


def header(result: EvalResult) -> list[str]:
    """The table's header."""
    return ["", "", *COLUMNS[:4], f"pass@{result.inputs.sampling.samples}", *COLUMNS[5:]]


def _cells(numbers: Score) -> list[str]:
    error = "" if numbers.error is None else f"{100 * numbers.error:.1f}"
    shares = (numbers.majority, numbers.pass_k, numbers.no_answer, numbers.cut)
    return [
        f"{numbers.problems:,}",
        f"{100 * numbers.pass1:.1f}",
        error,
        *(f"{100 * share:.1f}" for share in shares),
        f"{numbers.tokens:,.0f}",
        f"{100 * numbers.strict:.1f}",
    ]


def notes(result: EvalResult) -> Iterator[str]:
    """What stands under the table: on which answers the two verdicts do not agree."""
    for when, found in result.models.items():
        for difference in found.differences[:DIFFERENCES_SHOWN]:
            yield f"{when}: {_told(difference)}"
        if (more := len(found.differences) - DIFFERENCES_SHOWN) > 0:
            yield f"{when}: {more:,} more of these; {found.answers} has all verdicts"
        if timeouts := found.scores[ALL].timeouts:
            yield f"{when}: the grader gave up on {timeouts:,} answers, which count as wrong"


def _told(difference: Difference) -> str:
    """A difference as a line."""
    return (
        f"{_short(difference.given)} for {_short(difference.expected)} (problem {difference.problem}, sample"
        f" {difference.sample}): {difference.published} as published, {difference.strict} by exact value"
    )


def _short(text: str) -> str:
    """A text's beginning, on one line."""
    line = " ".join(text.split()) or "nothing"
    return line if len(line) <= LONGEST_SHOWN else f"{line[: LONGEST_SHOWN - 1]}…"
