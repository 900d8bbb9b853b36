"""The Mode of a word: what it needs is loaded here, once for all its answers."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from omr import recipe
from omr.evaluation.modes import cot
from omr.evaluation.modes.base import Mode
from omr.evaluation.modes.cot import Cot
from omr.evaluation.modes.genselect import Candidate, GenSelect, Solutions
from omr.evaluation.modes.prompts import Prompts
from omr.evaluation.modes.tir import Tir
from omr.evaluation.problems import Problem
from omr.evaluation.request import EvalRequest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def mode_of(
    name: str,
    request: EvalRequest,
    tokenizer: "PreTrainedTokenizerBase",
    solutions: Callable[[], Solutions],
) -> Mode:
    """The mode for the problems of a request, asked in a tokenizer's chat template.

    `solutions` gives what genselect compares, and is called for that alone.
    """
    of = recipe.of_model(request.run.model)
    executions = of.evaluation.code_executions
    prompts = Prompts(of.corpus, tokenizer, executions)
    if name == "genselect":
        return _genselect(request, prompts, solutions())
    texts = {problem.id: prompts.of(name, problem) for problem in request.problems.problems}
    if name != "tir":
        return Cot(texts, request.sampling)
    return Tir(texts, request.sampling, executions, prompts.code_tags(), request.means.sandbox)


def _genselect(request: EvalRequest, prompts: Prompts, solutions: Solutions) -> GenSelect:
    problems = {problem.id: problem for problem in request.problems.problems}
    # What the prompt and its template make of one example tells both.
    example = prompts.comparison(Problem("3", "1+2"), [Candidate(0, "3", "three"), Candidate(1, "4", "four")])
    return GenSelect(
        solutions,
        request.sampling,
        lambda problem, candidates: prompts.comparison(problems[problem], candidates),
        cot.digest({"example": example, **{id: p.problem or p.input for id, p in problems.items()}}),
    )
