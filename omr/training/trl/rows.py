"""Rows of an SFT file for the one-box engine: where each begins, in which order they train, as token ids.

The file may be larger than memory: an index of line offsets (8 bytes a row) is made once and mapped, rows are
read and tokenised as they are needed.
"""

import json
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omr.errors import OmrError
from omr.files import writing

if TYPE_CHECKING:
    import numpy
    from transformers import PreTrainedTokenizerBase

SEED = 42  # of the order of rows, as NeMo-Skills' sft.seed
BLOCK = 1 << 24
AHEAD = 2  # steps that are tokenised while one trains


class Rows:
    """The first `limit` rows of a JSONL file, by number."""

    def __init__(self, path: Path, index: Path, limit: int | None = None) -> None:
        import numpy as np

        self.path = path
        if not index.exists():
            with writing(index) as aside, aside.open("wb") as out:
                np.save(out, _offsets(path))
        offsets = np.load(index, mmap_mode="r", allow_pickle=False)
        if offsets[-1] != path.stat().st_size:
            raise OmrError(f"{path}: is no longer the file that {index} was made from; remove {index.name}")
        self._offsets = offsets
        self.found = len(offsets) - 1  # in the file, whatever the limit
        self._rows = min(limit or self.found, self.found)
        self._file = path.open("rb")

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, number: int) -> tuple[str, str]:
        """`input` and `output` of a row; an OmrError names a row that has not both."""
        start, end = int(self._offsets[number]), int(self._offsets[number + 1])
        self._file.seek(start)
        try:
            row = json.loads(self._file.read(end - start))
            given, wanted = row["input"], row["output"]
            if not (isinstance(given, str) and isinstance(wanted, str)):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            raise OmrError(
                f"{self.path}: row {number + 1} has no text for input and output; make data again"
            ) from None
        return given, wanted


def _offsets(path: Path) -> "numpy.ndarray":
    """Byte offset of each line's begin, and of the file's end; uint64."""
    import numpy as np

    found, at = [np.zeros(1, np.uint64)], 0
    with path.open("rb") as handle:
        while block := handle.read(BLOCK):
            ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + 1
            found.append(ends.astype(np.uint64) + np.uint64(at))
            at += len(block)
    offsets = np.concatenate(found)
    return offsets if offsets[-1] == at else np.append(offsets, np.uint64(at))


class Order:
    """Which rows train at which step: every epoch a new permutation, the next one begins where one ends.

    Nothing is dropped at the end of an epoch. The permutations come from a bit generator's raw output, which
    numpy promises not to change, so that a run goes on in the same order after an upgrade.
    """

    def __init__(self, rows: int, batch: int, seed: int = SEED) -> None:
        self.rows, self.batch, self.seed = rows, batch, seed
        self._epoch, self._permutation = -1, None

    def _permuted(self, epoch: int) -> "numpy.ndarray":
        import numpy as np

        if epoch != self._epoch:
            keys = np.random.PCG64([self.seed, epoch]).random_raw(self.rows)
            self._epoch, self._permutation = epoch, np.argsort(keys, kind="stable")
        return self._permutation

    def rows_of(self, step: int) -> list[int]:
        """Row numbers of the batch of a step (counted from 0)."""
        first = step * self.batch
        return [int(self._permuted(n // self.rows)[n % self.rows]) for n in range(first, first + self.batch)]


@dataclass
class Share:
    """What one process trains at one step."""

    step: int
    micro: list[list[dict]]  # micro-batches of rows: input_ids and labels
    trained: int  # tokens with a loss
    tokens: int
    over_length: int  # rows that count in the batch and are too long to train


class Feed:
    """Shares of the steps from `start` on, tokenised in a thread of its own."""

    def __init__(
        self,
        rows: Rows,
        order: Order,
        tokenizer: "PreTrainedTokenizerBase",
        sequence_length: int,
        plan: Callable[[Sequence[int]], list[list[int]]],
        steps: range,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.rows, self.order, self.tokenizer, self.plan = rows, order, tokenizer, plan
        self.sequence_length, self.steps = sequence_length, steps
        self.rank, self.processes = rank, processes

    def encode(self, numbers: Sequence[int]) -> list[dict]:
        """Rows as trained: input and output tokenised apart, nothing added, the loss on the output alone."""
        texts = [self.rows[n] for n in numbers]
        encoded = [
            self.tokenizer(list(part), add_special_tokens=False, return_attention_mask=False)["input_ids"]
            for part in zip(*texts, strict=True)
        ]
        return [{"input_ids": [*a, *b], "labels": [-100] * len(a) + b} for a, b in zip(*encoded, strict=True)]

    def over_length(self, count: int) -> tuple[int, int]:
        """How many of the first rows (at most `count`) were looked at, and how many are too long to train."""
        seen = min(count, len(self.rows))
        lengths = [len(row["input_ids"]) for row in self.encode(range(seen))]
        return seen, sum(length > self.sequence_length for length in lengths)

    def share(self, step: int) -> Share:
        """This process's part of a step's batch, cut into micro-batches."""
        mine = self.order.rows_of(step)[self.rank :: self.processes]
        encoded = self.encode(mine) if mine else []
        fitting = [row for row in encoded if 1 < len(row["input_ids"]) <= self.sequence_length]
        lengths = [len(row["input_ids"]) for row in fitting]
        micro = [[fitting[n] for n in group] for group in self.plan(lengths)]
        # The first token of a row is predicted from nothing.
        trained = sum(label != -100 for row in fitting for label in row["labels"][1:])
        return Share(step, micro, trained, sum(lengths), len(encoded) - len(fitting))

    def __iter__(self) -> Iterator[Share]:
        ready: queue.Queue = queue.Queue(maxsize=AHEAD)
        stop = threading.Event()

        def work() -> None:
            try:
                for step in self.steps:
                    share = self.share(step)
                    while not stop.is_set():
                        try:
                            ready.put(share, timeout=0.5)
                            break
                        except queue.Full:
                            continue
                    if stop.is_set():
                        return
                ready.put(None)
            except BaseException as error:
                ready.put(error)

        threading.Thread(target=work, daemon=True).start()
        try:
            while (share := ready.get()) is not None:
                if isinstance(share, BaseException):
                    raise share
                yield share
        finally:
            stop.set()


def padded(tokens: int, ratio: float = 1.3) -> Callable[[Sequence[int]], list[list[int]]]:
    """Micro-batches for padding: up to `tokens`, and lengths up to `ratio` of the shortest, in each."""

    def plan(lengths: Sequence[int]) -> list[list[int]]:
        groups: list[list[int]] = []
        for n in sorted(range(len(lengths)), key=lambda n: (lengths[n], n)):
            group = groups[-1] if groups else []
            if group and lengths[n] <= ratio * lengths[group[0]] and lengths[n] * (len(group) + 1) <= tokens:
                group.append(n)
            else:
                groups.append([n])
        return groups

    return plan


def packed(tokens: int) -> Callable[[Sequence[int]], list[list[int]]]:
    """Micro-batches of rows set end to end, at most `tokens` each: the longest first, where it first fits."""

    def plan(lengths: Sequence[int]) -> list[list[int]]:
        groups: list[list[int]] = []
        room: list[int] = []
        for n in sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)):
            for g, left in enumerate(room):
                if lengths[n] <= left:
                    groups[g].append(n)
                    room[g] -= lengths[n]
                    break
            else:
                groups.append([n])
                room.append(tokens - lengths[n])
        return groups

    return plan
