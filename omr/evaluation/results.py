"""What an evaluation found: graded answers, kept as they come, and each model's accuracy in eval.json."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from omr.evaluation.grading import Outcome, Verdict, boxed
from omr.evaluation.problems import Problem
from omr.files import read_json, write_json

DIFFERENCES_SHOWN = 5  # under the table of the terminal
LONGEST_SHOWN = 60  # characters of an answer there
LONGEST_KEPT = 500  # and in eval.json; the file of answers has all of it


@dataclass(frozen=True)
class KeptAnswer:
    """A line of the file of answers, with its verdict once there is one."""

    problem: Problem
    answer: str
    ended: bool  # by an end token, and not by the limit
    verdict: Verdict | None = None

    def as_line(self, grader: str | None = None) -> str:
        """The line as JSON, with the verdict where `grader` says whose it is: grading.identity()."""
        values = {"answer": self.answer, "ended": self.ended}
        if self.verdict and grader:
            values |= {**asdict(self.verdict), "grader": grader}
        return f"{json.dumps({**values, **self.problem.as_json()}, ensure_ascii=False)}\n"

    @classmethod
    def from_line(cls, line: str, grader: str) -> "KeptAnswer":
        """From a whole line; anything else is a ValueError, KeyError or TypeError.

        A verdict of another grader is left out.
        """
        row = json.loads(line)
        problem = Problem(row["expected_answer"], row.get("problem"), row.get("input"))
        graded = row.get("grader") == grader
        verdict = Verdict(Outcome(row["published"]), Outcome(row["strict"])) if graded else None
        return cls(problem, row["answer"], bool(row["ended"]), verdict)


def read_answers(file: Path, grader: str) -> list[KeptAnswer]:
    """The kept answers in order, up to the first line that a kill cut off; none where there is no file.

    Verdicts of another grader than `grader` are left out.
    """
    answers = []
    for line in file.read_text(encoding="utf-8").split("\n") if file.exists() else []:
        try:
            answers.append(KeptAnswer.from_line(line, grader))
        except (ValueError, KeyError, TypeError):
            break
    return answers


@dataclass(frozen=True)
class Difference:
    """An answer that one of the two verdicts takes for right, and the other does not."""

    number: int  # of the problem, from 1
    expected: str
    given: str  # what stands in the box
    published: str
    strict: str


@dataclass(frozen=True)
class ModelResult:
    """How a model answered the problems."""

    accuracy: float  # right answers, as a share of the problems
    correct: int  # right answers, as the published grader has it
    strict: int  # right by exact value, without rounding
    timeouts: int  # answers that the published grading did not end on
    problems: int
    ended: int  # answers that ended before the limit
    model: str  # its folder
    identity: str  # hex digest of the model
    answers: str  # the file of its graded answers
    differences: list[Difference]  # between the published and the strict verdict


def model_result(answers: Sequence[KeptAnswer], model: Path, identity: str, file: Path) -> ModelResult:
    """The counts of a model's graded answers, which `file` holds."""
    published = Counter(answer.verdict.published for answer in answers)
    correct = published[Outcome.RIGHT]
    return ModelResult(
        accuracy=correct / len(answers),
        correct=correct,
        strict=sum(answer.verdict.strict is Outcome.RIGHT for answer in answers),
        timeouts=published[Outcome.TIMEOUT],
        problems=len(answers),
        ended=sum(answer.ended for answer in answers),
        model=str(model),
        identity=identity,
        answers=str(file),
        differences=[
            Difference(
                number,
                answer.problem.expected_answer[:LONGEST_KEPT],
                boxed(answer.answer)[:LONGEST_KEPT],
                answer.verdict.published,
                answer.verdict.strict,
            )
            for number, answer in enumerate(answers, 1)
            if answer.verdict.differs
        ],
    )


@dataclass(frozen=True)
class EvalInputs:
    """What decides an evaluation's result."""

    questions: str  # hex digest of the problems and of the answers' limit
    models: dict[str, str | None]  # before, after or alone -> hex digest of the model
    grader: str  # grading.identity()


@dataclass(frozen=True)
class EvalResult:
    """eval.json."""

    questions: str  # where the problems came from, in words
    inputs: EvalInputs
    models: dict[str, ModelResult]  # by the names in `inputs.models`

    def as_json(self) -> dict[str, str | dict]:
        """The content of eval.json."""
        results = {when: asdict(result) for when, result in self.models.items()}
        return {"questions": self.questions, "inputs": asdict(self.inputs), **results}

    def write(self, path: Path) -> None:
        """Write eval.json, whole or not at all."""
        write_json(path, self.as_json())


def read(path: Path) -> EvalResult | None:
    """What eval.json says; None where there is none, or none of this form."""
    if not path.exists():
        return None
    values = read_json(path)
    try:
        inputs = EvalInputs(**values["inputs"])
        models = {when: _model_result(values[when]) for when in inputs.models}
        return EvalResult(values["questions"], inputs, models)
    except (KeyError, TypeError):
        return None


def _model_result(values: dict) -> ModelResult:
    differences = [Difference(**difference) for difference in values["differences"]]
    return ModelResult(**{**values, "differences": differences})


def table(result: EvalResult) -> list[str]:
    """Accuracy of each model, for the terminal; under it what the two verdicts do not agree on."""
    columns = ("accuracy", "correct", "problems", "ended", "strict", "differ", "timeout")
    widths = (10, 10, 10, 8, 8, 8, 9)
    lines = [f"{'':8}" + "".join(f"{name:>{width}}" for name, width in zip(columns, widths, strict=True))]
    for when, m in result.models.items():
        counts = (m.correct, m.problems, m.ended, m.strict, len(m.differences), m.timeouts)
        cells = [f"{m.accuracy:.3f}", *(f"{count:,}" for count in counts)]
        lines.append(f"{when:8}" + "".join(f"{c:>{width}}" for c, width in zip(cells, widths, strict=True)))
    for when, m in result.models.items():
        lines += [_told(when, difference) for difference in m.differences[:DIFFERENCES_SHOWN]]
        if (more := len(m.differences) - DIFFERENCES_SHOWN) > 0:
            lines.append(f"{when}: {more:,} more of these; {m.answers} has both verdicts on each answer")
    return lines


def _told(when: str, difference: Difference) -> str:
    """A difference as a line."""
    return (
        f"{when}: {_short(difference.given)} for {_short(difference.expected)} (problem {difference.number}):"
        f" {difference.published} as published, {difference.strict} by exact value"
    )


def _short(text: str) -> str:
    """A text's beginning, on one line."""
    line = " ".join(text.split()) or "nothing"
    return line if len(line) <= LONGEST_SHOWN else f"{line[: LONGEST_SHOWN - 1]}…"
