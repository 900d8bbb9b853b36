"""The held-out rows of a run as token ids: proved, tokenised once, and kept in four bytes a token."""

import itertools
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omr.errors import OmrError
from omr.files import sha256
from omr.run.validation import ValidationFile
from omr.training.trl.batches import GroupRows
from omr.training.trl.feed import NO_LOSS, encode, fits
from omr.training.trl.process_group import ProcessGroup
from omr.training.trl.sft_file import texts_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENISED_AT_ONCE = 256  # rows


@dataclass(frozen=True)
class HeldOutRow:
    """A row as it waits to be measured; a list of numbers would take ten times the memory."""

    ids: array
    prompt: int  # so many of its first tokens have no loss


@dataclass(frozen=True)
class HeldOutSplit:
    """One process's part of the held-out rows of a split."""

    name: str
    micro_batches: list[list[HeldOutRow]]

    @property
    def tokens(self) -> int:
        """Tokens of this part, with a loss or without."""
        return sum(len(row.ids) for rows in self.micro_batches for row in rows)


def read(
    files: Sequence[ValidationFile],
    tokenizer: "PreTrainedTokenizerBase",
    longest: int,
    group_rows: GroupRows,
    processes: ProcessGroup,
) -> list[HeldOutSplit]:
    """This process's part of each split. Rows over `longest` tokens are left out, as in training.

    An OmrError for a file that changed since the run was begun, and for a row without text.
    """
    splits = []
    for file in files:
        prove(file)
        rows = list(_rows(file, tokenizer, longest, processes))
        groups = group_rows([len(row.ids) for row in rows])
        splits.append(HeldOutSplit(file.split, [[rows[n] for n in group] for group in groups]))
    return splits


def prove(file: ValidationFile) -> None:
    """An OmrError where this is not the file that the run was begun with. It is small, so all is hashed."""
    path = file.path
    back = "bring the old file back, or set NAME=… for a run of its own"
    if not path.is_file():
        raise OmrError(f"{path}: the held-out rows are gone; {back}")
    if (size := path.stat().st_size) != file.size:
        raise OmrError(f"{path}: has {size} bytes, this run was begun with {file.size}; {back}")
    if sha256(path) != file.sha256:
        raise OmrError(f"{path}: has other rows than this run was begun with; {back}")


def _rows(
    file: ValidationFile, tokenizer: "PreTrainedTokenizerBase", longest: int, processes: ProcessGroup
) -> Iterator[HeldOutRow]:
    """Every so many-th row of a file, as many as there are processes, that is short enough."""
    with file.path.open("rb") as handle:
        mine = itertools.islice(enumerate(handle), processes.rank, None, processes.size)
        texts = (texts_of(line, file.path, number) for number, line in mine)
        while some := list(itertools.islice(texts, TOKENISED_AT_ONCE)):
            for row in encode(some, tokenizer):
                if fits(row, longest):
                    yield HeldOutRow(array("i", row["input_ids"]), row["labels"].count(NO_LOSS))
