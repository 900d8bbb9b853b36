"""Numbers of an evaluation, out of what every sample gave: pass@1, pass@k, majority@k, and their errors.

They are those of NeMo-Skills (nemo_skills/evaluation/metrics/base.py at the pinned commit), as shares of 1;
tests/evaluation/test_metrics.py holds them against its classes.
"""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from omr.evaluation.grading.rules import Outcome, Verdict
from omr.evaluation.samples import Kept


@dataclass(frozen=True)
class Graded:
    """What a sample came to."""

    given: str | None  # what stands in its box; None: no answer
    right: bool  # as the published grader has it
    strict: bool  # by exact value
    timeout: bool  # no verdict within the grader's limits
    ended: bool  # by itself, and not at the limit of tokens
    tokens: int  # that the model wrote
    executions: int = 0  # of code

    @classmethod
    def of(cls, kept: Kept, verdict: Verdict) -> "Graded":
        """A kept answer and the verdict on it."""
        return cls(
            kept.given,
            verdict.published is Outcome.RIGHT,
            verdict.strict is Outcome.RIGHT,
            verdict.published is Outcome.TIMEOUT,
            kept.ended,
            kept.tokens,
            kept.executions,
        )


@dataclass(frozen=True)
class Score:
    """The numbers of a set of problems, with k samples of each; all but counts and tokens are shares of 1."""

    problems: int
    samples: int  # k
    pass1: float  # the mean over problems and samples
    error: float | None  # its standard error: over the k runs that take one sample of each problem
    pass_k: float  # at least one of k is right
    majority: float  # the most frequent answer is right
    majority_by_k: tuple[float, ...]  # of the first 1, 2, … k samples
    strict: float  # pass1 by exact value
    timeouts: int
    no_answer: float
    cut: float  # at the limit of tokens
    tokens: float  # mean of a sample
    executions: float  # of code, mean of a sample


def score(problems: Sequence[Sequence[Graded]]) -> Score:
    """The numbers of problems with the same count of samples each; there is at least one of both."""
    k = len(problems[0])
    if any(len(samples) != k for samples in problems):
        raise ValueError("a problem has another number of samples")
    every = [sample for samples in problems for sample in samples]
    runs = [statistics.fmean(samples[n].right for samples in problems) for n in range(k)]
    by_k = tuple(statistics.fmean(majority(samples[: n + 1]) for samples in problems) for n in range(k))
    return Score(
        problems=len(problems),
        samples=k,
        pass1=statistics.fmean(runs),
        error=statistics.stdev(runs) / math.sqrt(k) if k > 1 else None,
        pass_k=statistics.fmean(any(sample.right for sample in samples) for samples in problems),
        majority=by_k[-1],
        majority_by_k=by_k,
        strict=statistics.fmean(sample.strict for sample in every),
        timeouts=sum(sample.timeout for sample in every),
        no_answer=statistics.fmean(sample.given is None for sample in every),
        cut=statistics.fmean(not sample.ended for sample in every),
        tokens=statistics.fmean(sample.tokens for sample in every),
        executions=statistics.fmean(sample.executions for sample in every),
    )


def majority(samples: Sequence[Graded]) -> float:
    """How right the most frequent answer is: the mean over equally frequent ones; 0 without any answer."""
    counts = Counter((sample.given, sample.right) for sample in samples if sample.given is not None)
    if not counts:
        return 0.0
    most = max(counts.values())
    return statistics.fmean(right for (_, right), count in counts.items() if count == most)


def standard_errors(found: Score, published: float) -> float | None:
    """How many standard errors the pass@1 lies above a published share of 1; None without an error.

    The published one was sampled too, and as often: its own error, which is not published, is taken to be as
    large, so that the difference has the square root of two times that of one.
    """
    if not found.error:
        return None
    return (found.pass1 - published) / (math.sqrt(2) * found.error)
