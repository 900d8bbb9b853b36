"""`make eval`: held-out problems answered and graded, before a run and after it.

Answers are kept batch by batch under <run>/eval/, in a file that is named by the model and the problems, so
that asking again is free and a killed evaluation goes on where it was. They are graded while more are made;
another version of the grader grades the kept ones again, and asks nothing.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omr import manifest, processes, recipe
from omr.errors import OmrError, RequestError
from omr.evaluation import answers, grading, results
from omr.evaluation.answers import Answer
from omr.evaluation.pool import Grader
from omr.evaluation.problems import ProblemSet, load_problems, prompt_texts
from omr.evaluation.results import EvalInputs, EvalResult, KeptAnswer, ModelResult
from omr.files import read_json, sha256, write_text
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
        return EvalInputs(self.problems.digest, identities, grading.identity())


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
        if when == "before" and (earlier := _after_round_1(path, model, inputs)):
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


def _after_round_1(model: Path, model_identity: str, inputs: EvalInputs) -> ModelResult | None:
    """What round 1's evaluation found for its final model, by the same weights, problems and grader."""
    if model.name != "final":
        return None
    result = results.read(RunFolder(model.parent).eval_json)
    same = result and (result.inputs.questions, result.inputs.grader) == (inputs.questions, inputs.grader)
    after = result.models.get("after") if same else None
    return after if after and after.identity == model_identity else None


def _graded_answers(request: EvalRequest, when: str, file: Path) -> list[KeptAnswer]:
    """One model's graded answers to all problems, which `file` then holds."""
    grader_identity = grading.identity()
    kept = results.read_answers(file, grader_identity)
    whole = len(kept) == len(request.problems.problems)
    if whole and all(answer.verdict for answer in kept):
        return kept
    with Grader() as grader:
        submitted = [
            (answer, grader.submit(answer.answer, answer.problem.expected_answer))
            for answer in (kept if whole else _all_answers(request, when, file, kept))
        ]
        graded = [replace(answer, verdict=verdict.result()) for answer, verdict in submitted]
    write_text(file, "".join(answer.as_line(grader_identity) for answer in graded))
    return graded


def _all_answers(
    request: EvalRequest, when: str, file: Path, kept: Sequence[KeptAnswer]
) -> Iterator[KeptAnswer]:
    """One model's answers to all problems: those `kept`, and others, added to `file` as they come."""
    wanted = request.problems.problems
    # The answers of a batch are computed together, and may depend on each other in their last bits.
    start = len(kept) // answers.BATCH * answers.BATCH
    batches = _answers_from(start, request, when)
    unasked = iter(wanted[start:])
    file.parent.mkdir(parents=True, exist_ok=True)
    progress = Progress(f"answering with {when}", len(wanted), "problems")
    progress.start(start)
    with file.open("w", encoding="utf-8") as out:
        out.writelines(answer.as_line() for answer in kept[:start])
        yield from kept[:start]
        for batch in batches:
            new = [KeptAnswer(next(unasked), answer.text, answer.ended) for answer in batch]
            out.writelines(answer.as_line() for answer in new)
            out.flush()
            progress.add(len(new))
            yield from new
    progress.close()


def _answers_from(start: int, request: EvalRequest, when: str) -> Iterator[list[Answer]]:
    """One model's answers to the problems from number `start` on, a batch at a time."""
    processes.let_threads_sleep()
    processes.quiet()
    tokenizer = answers.load_tokenizer(request.models.get("after") or request.models[when])
    prompts = prompt_texts(request.run, request.problems.problems[start:], tokenizer)
    gpu = bool(request.run.model.gpus) and answers.gpu_is_there()
    return answers.generate(request.models[when], prompts, request.problems.max_tokens, tokenizer, gpu)
