"""`make eval`: problems asked of a model, its answers graded and counted, in each mode that is wanted.

Answers are kept one by one under eval/, in a folder that is named by all that decides them: asking again is
free, and what was killed goes on where it was. They are graded while others come; another version of the
grader grades the kept ones again, and asks nothing.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from omr import recipe
from omr.errors import OmrError, RequestError
from omr.evaluation import asking, evaluation, results, samples
from omr.evaluation.evaluation import Evaluation, Part
from omr.evaluation.grading import rules
from omr.evaluation.grading.verdicts import Verdicts
from omr.evaluation.metrics import Graded
from omr.evaluation.modes import choose, genselect, prompts
from omr.evaluation.modes.genselect import Candidate, Solutions
from omr.evaluation.request import EvalRequest
from omr.evaluation.results import Difference, EvalInputs, EvalResult, ModelResult
from omr.evaluation.samples import Sample, SampleId, Writer
from omr.evaluation.sandbox import Limits
from omr.evaluation.servers.base import Server
from omr.evaluation.servers.choose import server_for
from omr.evaluation.servers.process import ServerEnded
from omr.models import rope
from omr.progress import Progress
from omr.workspace import Workspace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Say = Callable[[str], None]


class Evaluator:
    """Carries out a request; a context manager, because it may have a server running."""

    def __init__(
        self, request: EvalRequest, workspace: Workspace, say: Say = print, part: Part = Part()
    ) -> None:
        """With the server that this machine, or SERVER, has for the model; none is started yet.

        `part` is what of the samples is asked here.
        """
        self.request, self.workspace, self.say, self.part = request, workspace, say, part
        self.folder = workspace.run(request.run)
        logs = self.folder.logs if part == Part() else self.folder.logs / f"server-{part.name}"
        self.server: Server = server_for(request.run.model, request.means, context(request), logs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()

    def finished(self, mode: str) -> EvalResult | None:
        """What eval.json says, where it answers this very request."""
        if not self.request.of_the_run:
            return None
        result = results.read(self.folder.eval_json).get(mode)
        return result if result and result.inputs == self.inputs(mode) else None

    def inputs(self, mode: str) -> EvalInputs:
        """What decides the result of a mode; hashes the files of a model that has no manifest."""
        request = self.request
        solutions = request.means.solutions if mode == "genselect" else None
        asked = [mode, *([solutions] if solutions else [])]
        return EvalInputs(
            request.problems.digest,
            prompts.sources(recipe.CORPORA[request.run.model.corpus], asked),
            {when: evaluation.identity(path) for when, path in request.models.items()},
            request.sampling,
            self.server.engine,
            rules.identity(),
            request.means.sandbox if "tir" in asked else None,
            solutions,
        )

    def ask(self, mode: str, force: bool = False) -> None:
        """Have every sample of the part answered by each model; with `force` also what is answered."""
        for when, model in self.request.models.items():
            evaluation.prove(model, self.request.run, when)
            self._ask(self._evaluation(mode, model), when, force)

    def result(self, mode: str) -> EvalResult:
        """The numbers of each model; those of a run's own models go to its eval.json.

        An OmrError if answers are missing.
        """
        found = {}
        for when, model in self.request.models.items():
            found[when] = _counted(self._evaluation(mode, model))
            if mode == "genselect":
                compared = _counted(self._evaluation(self.request.means.solutions, model)).scores
                found[when] = replace(found[when], compared=compared)
        result = EvalResult(self.request.problems.source, mode, self.inputs(mode), found)
        if self.request.of_the_run:
            results.write(self.folder.eval_json, result)
        return result

    def _ask(self, asked: Evaluation, when: str, force: bool) -> None:
        """Ask for what the part lacks; a server that ends is started again as long as answers come."""
        asked.begin()
        part = self.part
        expected = {problem.id: problem.expected_answer for problem in asked.problems}
        with Writer(asked.folder, part.name) as writer, Verdicts(asked.folder, part.name) as verdicts:
            if force:
                writer.clear()
            kept = asked.kept()
            for sample, answer in kept.items():
                if sample.problem in expected:
                    verdicts.begin(answer.given, expected[sample.problem])
            missing = [sample for sample in asked.wanted() if part.has(sample) and sample not in kept]
            progress = _AnswerProgress(when, sum(map(part.has, asked.wanted())), len(missing))

            def keep(sample: Sample) -> None:
                writer.add(sample)
                answered.add(sample.id)
                verdicts.begin(sample.answer.given, expected[sample.id.problem])
                progress.add(sample)

            while missing:
                answered: set[SampleId] = set()
                try:
                    endpoints = self.server.serve(asked.model)
                    asking.ask(missing, endpoints, asked.mode, keep, self.server.processes)
                except ServerEnded as error:
                    self.server.stop()
                    if not answered:
                        raise
                    self.say(f"note: {error.brief}; it is started again")
                missing = [sample for sample in missing if sample not in answered]
            progress.close()
            verdicts.wait()

    def _evaluation(self, mode: str, model: Path) -> Evaluation:
        """The evaluation of a model in a mode."""
        request = self.request
        return Evaluation.of(
            self.workspace,
            f"{request.run.model.folder}-{mode}",
            model,
            choose.mode_of(mode, request, self._tokenizer, lambda: self._solutions(model)),
            request.problems.problems,
            request.sampling,
            self.server.engine,
        )

    @functools.cached_property
    def _tokenizer(self) -> "PreTrainedTokenizerBase":
        """The tokenizer whose chat template the problems are put into: that of training's end."""
        return prompts.tokenizer_of(list(self.request.models.values())[-1])

    def _solutions(self, model: Path) -> Solutions:
        """The solutions that genselect compares; a RequestError where they are not all there."""
        mode = self.request.means.solutions
        asked = self._evaluation(mode, model)
        wanted = set(asked.wanted())
        found: dict[str, list[Candidate]] = {problem.id: [] for problem in asked.problems}
        for sample in samples.read(asked.folder):
            if sample.id in wanted:
                found[sample.id.problem].append(Candidate.of(sample))
        if missing := len(wanted) - sum(map(len, found.values())):
            raise RequestError(
                f"MODE=genselect chooses among solutions of {mode}, of which {missing:,} are missing; run"
                f" make eval MODE={mode} with the same settings first, or set SOLUTIONS to the other mode"
            )
        return Solutions(mode, asked.folder.name, found)


def context(request: EvalRequest) -> int:
    """The most tokens that a prompt and its answer have together: no text has more tokens than bytes."""
    longest = max(len((p.input or p.problem or "").encode()) for p in request.problems.problems)
    executions = recipe.of_model(request.run.model).evaluation.code_executions
    extra = {
        "cot": 0,
        "tir": executions * (2 * Limits().characters + 400),  # stdout, stderr, and what is said of the rest
        "genselect": genselect.MOST_SOLUTIONS * genselect.LONGEST_SUMMARY // 2,
    }
    needed = longest + 2_048 + request.sampling.max_tokens + max(extra.get(mode, 0) for mode in request.modes)
    config = [rope.parse(path / "config.json") for path in request.models.values()]
    most = min(one.get("max_position_embeddings") or needed for one in config)
    return min(-(-needed // 1_024) * 1_024, most)


def _counted(asked: Evaluation) -> ModelResult:
    """The numbers of an evaluation's kept answers; an OmrError if some are missing."""
    kept, wanted = asked.kept(), list(asked.wanted())
    if missing := sum(sample not in kept for sample in wanted):
        raise OmrError(
            f"{asked.folder}: {missing:,} of {len(wanted):,} answers are missing; run the same command again"
        )
    graded, differences = [], []
    with Verdicts(asked.folder) as verdicts:
        for problem in asked.problems:  # all at once, where another grader's verdicts are to be made anew
            for sample in range(asked.samples):
                verdicts.begin(kept[SampleId(problem.id, sample)].given, problem.expected_answer)
        for number, problem in enumerate(asked.problems, 1):
            rows = []
            for sample in range(asked.samples):
                answer = kept[SampleId(problem.id, sample)]
                verdict = verdicts.of(answer.given, problem.expected_answer)
                rows.append(Graded.of(answer, verdict))
                if verdict.differs:
                    differences.append(Difference.of(number, sample, problem, answer.given, verdict))
            graded.append(rows)
    return results.model_result(asked.problems, graded, differences, (asked.model, asked.folder))


class _AnswerProgress:
    """Shows how many answers there are, and how many tokens come a second."""

    def __init__(self, when: str, wanted: int, missing: int) -> None:
        self._when, self._tokens, self._begin = when, 0, time.monotonic()
        self._progress = Progress(f"asking {when}", wanted, "answers")
        self._progress.start(wanted - missing)

    def add(self, sample: Sample) -> None:
        self._tokens += sample.answer.tokens
        rate = self._tokens / (time.monotonic() - self._begin)
        self._progress.what = f"asking {self._when}, {rate:,.0f} tokens/s"
        self._progress.add(1)

    def close(self) -> None:
        self._progress.close()
