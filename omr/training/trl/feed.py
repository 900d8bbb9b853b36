"""The batches of a training as token ids, tokenised in a thread while the step before them trains."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypedDict

from omr.training.trl.batches import EpochOrder, GroupRows
from omr.training.trl.process_group import ProcessGroup
from omr.training.trl.sft_file import SftFile

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AHEAD = 2  # steps that are tokenised while one trains
NO_LOSS = -100  # the label of a token that is not trained on: what torch's cross entropy ignores


class EncodedRow(TypedDict):
    """A row as transformers' models take it; both lists are of the same length."""

    input_ids: list[int]
    labels: list[int]  # the token itself, or NO_LOSS


def encode(texts: Sequence[tuple[str, str]], tokenizer: "PreTrainedTokenizerBase") -> list[EncodedRow]:
    """Rows' `input` and `output`, tokenised apart, with no token added. The loss is on the output alone."""
    encoded = [
        tokenizer(list(part), add_special_tokens=False, return_attention_mask=False)["input_ids"]
        for part in zip(*texts, strict=True)
    ]
    return [
        {"input_ids": [*prompt, *response], "labels": [NO_LOSS] * len(prompt) + response}
        for prompt, response in zip(*encoded, strict=True)
    ]


def fits(row: EncodedRow, longest: int) -> bool:
    """Whether a row is trained on: it has at most `longest` tokens, and one to predict from another."""
    return 1 < len(row["input_ids"]) <= longest


def trained_tokens(row: EncodedRow) -> int:
    """Tokens with a loss. A row's first token has none: nothing stands before it to predict it from."""
    return sum(label != NO_LOSS for label in row["labels"][1:])


@dataclass
class StepBatch:
    """What one process trains at one step."""

    step: int  # from 0
    micro_batches: list[list[EncodedRow]]
    trained_tokens: int  # tokens with a loss
    tokens: int  # all tokens
    rows_over_length: int  # rows that count in the batch and are too long to be trained


@dataclass
class BatchFeed:
    """One process's part of each step's batch. Iterating gives a StepBatch for each of `steps`, in order."""

    file: SftFile
    order: EpochOrder
    tokenizer: "PreTrainedTokenizerBase"
    longest: int  # tokens; a longer row is left out
    group_rows: GroupRows
    steps: range
    processes: ProcessGroup

    def encode(self, numbers: Sequence[int]) -> list[EncodedRow]:
        """Rows of the file by number."""
        return encode([self.file[n] for n in numbers], self.tokenizer)

    def count_over_length(self, count: int) -> tuple[int, int]:
        """How many of the file's first rows (at most `count`) were looked at, and how many are too long."""
        seen = min(count, len(self.file))
        lengths = [len(row["input_ids"]) for row in self.encode(range(seen))]
        return seen, sum(length > self.longest for length in lengths)

    def batch(self, step: int) -> StepBatch:
        """This process's part of a step's batch, in micro-batches."""
        mine = self.order.rows_of(step)[self.processes.rank :: self.processes.size]
        encoded = self.encode(mine) if mine else []
        fitting = [row for row in encoded if fits(row, self.longest)]
        lengths = [len(row["input_ids"]) for row in fitting]
        return StepBatch(
            step,
            micro_batches=[[fitting[n] for n in group] for group in self.group_rows(lengths)],
            trained_tokens=sum(map(trained_tokens, fitting)),
            tokens=sum(lengths),
            rows_over_length=len(encoded) - len(fitting),
        )

    def __iter__(self) -> Iterator[StepBatch]:
        steps, pool = iter(self.steps), ThreadPoolExecutor(max_workers=1)
        try:
            pending = deque(pool.submit(self.batch, step) for step in islice(steps, AHEAD))
            while pending:
                ready = pending.popleft().result()
                pending.extend(pool.submit(self.batch, step) for step in islice(steps, 1))
                yield ready
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
