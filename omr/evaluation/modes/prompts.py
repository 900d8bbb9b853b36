"""The text that a model is asked with, the very `input` that it was trained on, in each mode.

For the real recipe the prompts, the code tags and the wording after an output are those of the installed
nemo-skills; a recipe with a folder of prompts has its own, as tiny (omr/tiny/prompts).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omr import recipe
from omr.data import prompts
from omr.errors import RequestError, listing
from omr.evaluation.modes.genselect import Candidate
from omr.evaluation.problems import Problem
from omr.models import rope
from omr.tiny import corpus as tiny

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


TAGS = ("begin", "end", "output_begin", "output_end", "output_format")  # of a file of code tags, behind code_
COUNTED = "execution_count()"  # how a recipe calls the number of executions that a prompt allows


@dataclass(frozen=True)
class CodeTags:
    """What stands around code and around what it put out."""

    begin: str
    end: str
    output_begin: str
    output_end: str
    output_format: str  # nemo-skills' word for how an output is laid out
    own: bool  # they are of a recipe with prompts of its own

    @property
    def identity(self) -> str:
        """All of it as a text."""
        return repr(self)

    def output(self, text: str, status: str, left: int) -> str:
        """What the model reads after its code: its output, and how many executions it has `left`."""
        if self.own:
            note = f"Remaining code executions: {left}" if left else "You have run out of code executions!"
            return f"{self.output_begin}{text}{self.output_end}```system\n{note}\n```\n"
        from nemo_skills.code_execution.utils import format_code_output

        done = {"process_status": status, "stdout": text, "stderr": ""}
        return format_code_output(done, self.output_begin, self.output_end, self.output_format, left)


class Prompts:
    """The prompts of a corpus, in the chat template of a tokenizer; tir's allows so many `executions`."""

    def __init__(
        self, corpus: recipe.Corpus, tokenizer: "PreTrainedTokenizerBase", executions: int = 8
    ) -> None:
        self._corpus, self._tokenizer, self._executions = corpus, tokenizer, executions
        self._loaded: dict[str, prompts.Prompt] = {}

    def of(self, mode: str, problem: Problem) -> str:
        """What a problem is asked with in mode cot or tir; its own `input` stands as it is.

        A RequestError where the prompt is filled with more than a problem, which only the rows have.
        """
        if problem.input is not None:
            return problem.input
        values: dict[str, str | int] = {prompts.PROBLEM: problem.problem}
        for field, source in self._corpus.prompts[mode].fields.items():
            if source != COUNTED:
                raise RequestError(
                    f"MODE={mode}: its prompt has {field} from {source} of a row, which problems have not;"
                    " give PROBLEMS with `input`, the whole text"
                )
            values[field] = self._executions
        return self._prompt(mode).fill(values)

    def comparison(self, problem: Problem, solutions: Sequence[Candidate]) -> str:
        """What GenSelect asks about solutions of a problem, which are numbered from 0."""
        asked = problem.problem or problem.input
        if self._corpus.name == "tiny":  # its rows have the sum and the answers alone
            asked = tiny.sum_of(asked)
            numbered = "\n".join(f"Solution {n}: {one.given}" for n, one in enumerate(solutions))
        else:
            numbered = "\n\n".join(f"Solution {n}:\n{one.summary}" for n, one in enumerate(solutions))
        values = {
            prompts.PROBLEM: asked,
            "solutions": numbered,
            "num_solutions": len(solutions),
            "max_idx": len(solutions) - 1,
        }
        return self._prompt("genselect").fill(values)

    def code_tags(self) -> CodeTags:
        """The tags of the corpus's tir prompt; a RequestError without nemo-skills or all of them."""
        import yaml

        name = self._corpus.prompts["tir"].code_tags
        if name is None:
            raise RequestError(
                "MODE=tir runs the code between the tags of a prompt, and the recipe names none; write"
                " code_tags into splits.tir"
            )
        path = prompts.code_tags_file(self._corpus, name)
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
            tags = {key: values[f"code_{key}"] for key in TAGS}
            if not all(isinstance(tag, str) for tag in tags.values()):
                raise TypeError
        except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
            keys = listing([f"code_{key}" for key in TAGS], "and")
            raise RequestError(f"{path}: is no file of code tags; write {keys} into it") from None
        return CodeTags(**tags, own=self._corpus.prompt_folder is not None)

    def _prompt(self, mode: str) -> prompts.Prompt:
        if mode not in self._loaded:
            config = self._corpus.prompts[mode].asks
            self._loaded[mode] = prompts.load(self._corpus, mode, self._tokenizer, config)
        return self._loaded[mode]


def tokenizer_of(folder: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer of a model folder; an OmrError where it cannot be read."""
    from transformers import AutoTokenizer

    return rope.taken(
        folder / "tokenizer.json", lambda: AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    )


def sources(corpus: recipe.Corpus, modes: Sequence[str]) -> str:
    """Hex digest of the files that the modes' prompts are made from, without a tokenizer's template."""
    texts = []
    for mode in modes:
        if config := corpus.prompts[mode].asks or corpus.prompts[mode].config:
            texts.append(prompts.config_file(corpus, config).read_text(encoding="utf-8"))
        if tags := corpus.prompts[mode].code_tags:
            texts.append(prompts.code_tags_file(corpus, tags).read_text(encoding="utf-8"))
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
