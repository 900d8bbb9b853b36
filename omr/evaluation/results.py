"""What an evaluation found: graded answers, kept as they come, and each model's accuracy in eval.json."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from omr.evaluation.problems import Problem
from omr.files import read_json, write_json


@dataclass(frozen=True)
class GradedAnswer:
    """A line of the file of answers."""

    problem: Problem
    answer: str
    ended: bool  # by an end token, and not by the limit
    right: bool

    def as_line(self) -> str:
        """The line as JSON."""
        values = {"answer": self.answer, "ended": self.ended, "right": self.right, **self.problem.as_json()}
        return f"{json.dumps(values, ensure_ascii=False)}\n"

    @classmethod
    def from_line(cls, line: str) -> "GradedAnswer":
        """From a whole line; anything else is a ValueError, KeyError or TypeError."""
        row = json.loads(line)
        problem = Problem(row["expected_answer"], row.get("problem"), row.get("input"))
        return cls(problem, row["answer"], bool(row["ended"]), bool(row["right"]))


def read_answers(file: Path) -> list[GradedAnswer]:
    """The kept answers in order, up to the first line that a kill cut off; none where there is no file."""
    answers = []
    for line in file.read_text(encoding="utf-8").split("\n") if file.exists() else []:
        try:
            answers.append(GradedAnswer.from_line(line))
        except (ValueError, KeyError, TypeError):
            break
    return answers


@dataclass(frozen=True)
class ModelResult:
    """How a model answered the problems."""

    accuracy: float  # right answers, as a share of the problems
    correct: int  # right answers
    problems: int
    ended: int  # answers that ended before the limit
    model: str  # its folder
    identity: str  # hex digest of the model
    answers: str  # the file of its graded answers


def model_result(answers: Sequence[GradedAnswer], model: Path, identity: str, file: Path) -> ModelResult:
    """The counts of a model's graded answers, which `file` holds."""
    correct = sum(answer.right for answer in answers)
    ended = sum(answer.ended for answer in answers)
    return ModelResult(correct / len(answers), correct, len(answers), ended, str(model), identity, str(file))


@dataclass(frozen=True)
class EvalInputs:
    """What decides an evaluation's result."""

    questions: str  # hex digest of the problems and of the answers' limit
    models: dict[str, str | None]  # before, after or alone -> hex digest of the model


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
        models = {when: ModelResult(**values[when]) for when in inputs.models}
        return EvalResult(values["questions"], inputs, models)
    except (KeyError, TypeError):
        return None


def table(result: EvalResult) -> list[str]:
    """Accuracy of each model, for the terminal."""
    lines = [f"{'':8}{'accuracy':>10}{'correct':>10}{'problems':>10}{'ended':>8}"]
    for when, m in result.models.items():
        lines.append(f"{when:8}{m.accuracy:>10.3f}{m.correct:>10,}{m.problems:>10,}{m.ended:>8,}")
    return lines
