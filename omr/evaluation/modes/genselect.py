"""GenSelect: the model reads several solutions of a problem, and judges which is the best.

Which solutions it reads follows NeMo-Skills as it was when the numbers were published
(nemo_skills/inference/genselect_preprocess.py, which the pinned commit has no more): at least one of each
answer and at most 16, more of the frequent answers, each by what it sums up after its thoughts. Different
from there: the draw has a seed, and solutions are laid out as in training, without blank lines at the end.
"""

import random
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from omr.evaluation.modes.base import Mode
from omr.evaluation.request import Sampling
from omr.evaluation.samples import Answer, Sample, SampleId
from omr.evaluation.servers.client import Client

MOST_SOLUTIONS = 16
LONGEST_SUMMARY = 5_000  # characters, its end
JUDGMENT = re.compile(r"Judge?ment: (\d{1,9})")
THOUGHTS_END = "</think>"


@dataclass(frozen=True)
class Candidate:
    """A solution that is compared."""

    number: int  # of its sample
    given: str | None  # its answer
    summary: str

    @classmethod
    def of(cls, sample: Sample) -> "Candidate":
        """Of a kept sample."""
        return cls(sample.id.number, sample.answer.given, summary(sample.answer.text))


@dataclass(frozen=True)
class Solutions:
    """What is compared: the solutions of a finished evaluation."""

    mode: str  # cot or tir
    evaluation: str  # names the evaluation, and with it all that decided the solutions
    candidates: Mapping[str, Sequence[Candidate]]  # by Problem.id


class GenSelect(Mode):
    """`prompt` puts a problem (by its id) and candidates into the text that the model is asked with."""

    def __init__(
        self,
        solutions: Solutions,
        sampling: Sampling,
        prompt: Callable[[str, Sequence[Candidate]], str],
        prompts_identity: str,
    ) -> None:
        self._candidates, self._sampling, self._prompt = solutions.candidates, sampling, prompt
        self.identity = {
            "mode": "genselect",
            "prompts": prompts_identity,
            "solutions": solutions.evaluation,
            "of each": len(next(iter(solutions.candidates.values()))),
        }

    async def answer(self, client: Client, sample: SampleId) -> Answer:
        """One comparison; nothing is asked where all solutions have the same answer."""
        drawn = candidates(sample.problem, self._candidates[sample.problem], sample.number)
        if len(drawn) == 1:
            return Answer("", drawn[0].given, True, 0, chosen=drawn[0].number)
        asked = self._prompt(sample.problem, drawn)
        done = await client.complete(asked, self._sampling, sample.number)
        index = judgment(done.text, len(drawn))
        taken = drawn[fallback(sample.problem, len(drawn), sample.number) if index is None else index]
        return Answer(
            done.text, taken.given, done.ended, done.tokens, chosen=taken.number, judged=index is not None
        )


def summary(text: str) -> str:
    """What a solution says after its thoughts; of one without them the last steps."""
    if THOUGHTS_END in text:
        text = text.rpartition(THOUGHTS_END)[2]
    elif len(text) >= LONGEST_SUMMARY:
        text = "\n\n".join(text.split("\n\n")[-10:])
    return text.replace("<think>", "")[-LONGEST_SUMMARY:]


def candidates(problem: str, solutions: Sequence[Candidate], seed: int) -> list[Candidate]:
    """The solutions that one comparison reads, in its order, drawn by (the problem's id, seed).

    A single one where all solutions have the same answer, or none: there is nothing to choose.
    """
    by_answer: dict[str | None, list[Candidate]] = defaultdict(list)
    for solution in sorted(solutions, key=lambda solution: solution.number):
        by_answer[solution.given].append(solution)
    groups = list(by_answer.values())
    if len(groups) == 1:
        return groups[0][:1]
    rng = random.Random(f"{problem} {seed}")
    rng.shuffle(groups)
    most = min(MOST_SOLUTIONS, len(solutions))
    drawn: list[Candidate] = []
    for group in groups:
        share = len(group) / len(solutions) * most
        count = int(share) + (rng.random() < share % 1)
        drawn += rng.sample(group, min(max(1, count), len(group)))
    return drawn[:MOST_SOLUTIONS]


def judgment(text: str, count: int) -> int | None:
    """The solution that the last `Judgment: N` names; None where it names none of the `count`."""
    found = JUDGMENT.findall(text)
    return int(found[-1]) if found and int(found[-1]) < count else None


def fallback(problem: str, count: int, seed: int) -> int:
    """The number that is taken where the judgment names none: any, by (the problem's id, seed)."""
    return random.Random(f"{problem} {seed} fallback").randrange(count)
