"""`make eval`: held-out problems answered and graded, before a run and after it.

Answers are kept batch by batch under <run>/eval/, in a file that is named by the model and the problems, so
that asking again is free and a killed evaluation goes on where it was.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from omr import libraries, manifest, recipe
from omr.errors import OmrError, RequestError
from omr.evaluation import answers, results
from omr.evaluation.answers import Answer
from omr.evaluation.grading import is_right
from omr.evaluation.problems import ProblemSet, load_problems, prompt_texts
from omr.evaluation.results import EvalInputs, EvalResult, GradedAnswer, ModelResult
from omr.files import read_json, sha256
from omr.progress import Progress
from omr.run import frozen
from omr.workspace import RunFolder, Workspace


@dataclass(frozen=True)
class EvalRequest:
    """Which models answer which problems. `of` makes one from a user's words and checks it."""

    run: recipe.Run  # whose recipe has the prompt, and whose folder keeps the answers
    problems: ProblemSet
    models: dict[str, Path]  # folders: the run's own two as before and after, or any other as alone

    @classmethod
    def of(
        cls,
        run: recipe.Run,
        workspace: Workspace,
        *,
        problems: Path | None = None,
        max_tokens: int | None = None,
        folder: Path | None = None,
    ) -> "EvalRequest":
        """PROBLEMS, MAX_TOKENS and --folder as a request; a RequestError says what cannot be."""
        asked = load_problems(run, problems, max_tokens)
        return cls(run, asked, {"alone": folder} if folder else models_of(run, workspace.run(run)))

    @property
    def of_the_run(self) -> bool:
        """Whether the models are the run's own: then the result is written to its eval.json."""
        return "after" in self.models

    def inputs(self) -> EvalInputs:
        """What decides the result; hashes the files of a model that has no manifest."""
        identities = {when: identity(path) for when, path in self.models.items()}
        return EvalInputs(self.problems.digest, identities)


def models_of(run: recipe.Run, folder: RunFolder) -> dict[str, Path]:
    """The model that training started from, and the one it ended with; a RequestError if it has not ended."""
    if manifest.read(folder.final) is None:
        words = f"MODEL={run.model.name} ROUND={run.round.number}"
        raise RequestError(f"{folder.final}: is not finished; run make train {words} first")
    before = Path(read_json(folder.run_json)["request"]["base"]["path"])
    return {"before": before, "after": folder.final}


def identity(folder: Path) -> str | None:
    """Hex digest of a model, from its manifest, else from its files; None where there is no model."""
    if manifest.read(folder):
        return frozen.identity(folder)
    parts = sorted(path for pattern in ("*.safetensors", "*.json") for path in folder.glob(pattern))
    names = [[path.name, sha256(path)] for path in parts]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest() if names else None


def finished(request: EvalRequest, workspace: Workspace) -> EvalResult | None:
    """What eval.json says, where it answers this very request."""
    if not request.of_the_run:
        return None
    result = results.read(workspace.run(request.run).eval_json)
    return result if result and result.inputs == request.inputs() else None


def evaluate(
    request: EvalRequest, workspace: Workspace, *, force: bool = False, say: Callable[[str], None] = print
) -> EvalResult:
    """Ask each of the models; `force` asks also what it has answered. A run's own two go to its eval.json."""
    folder, inputs = workspace.run(request.run), request.inputs()
    for when, path in request.models.items():
        if inputs.models[when] is None:
            raise OmrError(f"{path}: there is no model; make it again")
    found = {}
    for when, path in request.models.items():
        model = inputs.models[when]
        if when == "before" and (earlier := _after_round_1(path, model, inputs.questions)):
            say(f"before: as round 1 ended, {earlier.accuracy:.3f}")
            found[when] = earlier
            continue
        root = folder.root if request.of_the_run else workspace.root
        file = root / "eval" / f"{model[:12]}-{inputs.questions[:12]}.jsonl"
        if force:
            file.unlink(missing_ok=True)
        found[when] = results.model_result(_graded_answers(request, when, file), path, model, file)
    result = EvalResult(request.problems.source, inputs, found)
    if request.of_the_run:
        result.write(folder.eval_json)
    return result


def _after_round_1(model: Path, model_identity: str, questions: str) -> ModelResult | None:
    """What round 1's evaluation found for its final model, where that is the same weights and problems."""
    if model.name != "final":
        return None
    result = results.read(RunFolder(model.parent).eval_json)
    after = result.models.get("after") if result and result.inputs.questions == questions else None
    return after if after and after.identity == model_identity else None


def _graded_answers(request: EvalRequest, when: str, file: Path) -> list[GradedAnswer]:
    """One model's answers to all problems: those that `file` holds, and the others, which are added to it."""
    wanted = request.problems.problems
    graded = results.read_answers(file)
    if len(graded) == len(wanted):
        return graded
    # The answers of a batch are computed together, and may depend on each other in their last bits.
    start = len(graded) // answers.BATCH * answers.BATCH
    graded = graded[:start]
    batches = _answers_from(start, request, when)
    file.parent.mkdir(parents=True, exist_ok=True)
    progress = Progress(f"answering with {when}", len(wanted), "problems")
    progress.start(start)
    with file.open("w", encoding="utf-8") as out:
        out.writelines(answer.as_line() for answer in graded)
        for batch in batches:
            for answer in batch:
                problem = wanted[len(graded)]
                right = is_right(answer.text, problem.expected_answer)
                graded.append(GradedAnswer(problem, answer.text, answer.ended, right))
                out.write(graded[-1].as_line())
            out.flush()
            progress.set(len(graded))
    progress.close()
    return graded


def _answers_from(start: int, request: EvalRequest, when: str) -> Iterator[list[Answer]]:
    """One model's answers to the problems from number `start` on, a batch at a time."""
    libraries.let_threads_sleep()
    libraries.quiet()
    tokenizer = answers.load_tokenizer(request.models.get("after") or request.models[when])
    prompts = prompt_texts(request.run, request.problems.problems[start:], tokenizer)
    gpu = bool(request.run.model.gpus) and answers.gpu_is_there()
    return answers.generate(request.models[when], prompts, request.problems.max_tokens, tokenizer, gpu)
