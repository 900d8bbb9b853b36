"""NeMo-RL's validation, a split at a time: the loss of each, and of all their tokens together.

Runs inside the engine's environment, as the driver does. NeMo-RL puts the held-out rows of all splits into
one data set; a row has the name of the set that it came from, by which they are told apart again.
"""

import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from omr.run.validation import LOSS, loss_of
from omr.training.nemo_rl.prepared_data import HELD_OUT

LOADER = 3  # place of the validation's loader in what NeMo-RL's setup returns
CONFIG = 8  # of its configuration


class Counted:
    """A loader that counts the tokens with a loss of the batches that were taken from it, as NeMo-RL does."""

    def __init__(self, loader: Any) -> None:
        self.loader, self.tokens = loader, 0.0

    def __iter__(self) -> Iterator[Any]:
        self.tokens = 0.0
        for batch in self.loader:
            yield batch
            # NeMo-RL has marked them meanwhile; a row that is too long has the weight 0.
            for weight, messages in zip(batch["loss_multiplier"], batch["message_log"], strict=True):
                marked = sum(int(m["token_loss_mask"].sum()) for m in messages if "token_loss_mask" in m)
                self.tokens += float(weight) * marked


class BySplit:
    """What takes the place of NeMo-RL's `validate`, around the original."""

    def __init__(self, sft: ModuleType) -> None:
        self._sft, self._original = sft, sft.validate
        self.loaders: dict[str, Counted] = {}  # of each split
        self.longest = 0.0  # seconds that one validation took, at most

    def set_up(self, built: tuple[Any, ...]) -> tuple[Any, ...]:
        """What NeMo-RL's setup returned; from it, a loader for each split, if it made one for all."""
        if built[LOADER] is not None:
            rows = built[LOADER].dataset
            sft, data = built[CONFIG]["sft"], built[CONFIG]["data"]
            for split, numbers in _numbers(rows.dataset["task_name"]).items():
                loader = self._sft.StatefulDataLoader(
                    _Part(rows, numbers),
                    batch_size=sft["val_global_batch_size"],
                    shuffle=False,
                    collate_fn=self._sft.rl_collate_fn,
                    drop_last=False,
                    num_workers=data["num_workers"],
                )
                self.loaders[split] = Counted(loader)
        return built

    def validate(self, policy: Any, loader: Any, *given: Any, **named: Any) -> tuple[dict, dict]:
        """The losses and the seconds; without held-out rows what the original says to that."""
        if not self.loaders:
            return self._original(policy, loader, *given, **named)
        began = time.monotonic()
        losses, seconds, total, tokens = {}, {}, 0.0, 0.0
        for split, counted in self.loaders.items():
            print(f"validation on {split}", flush=True)
            found, times = self._original(policy, counted, *given, **named)
            for name, value in times.items():
                seconds[name] = seconds.get(name, 0.0) + value
            if counted.tokens:  # else no row of the split is short enough
                losses[loss_of(split)] = float(found["val_loss"])
                total += losses[loss_of(split)] * counted.tokens
                tokens += counted.tokens
        if tokens:
            losses = {LOSS: total / tokens, **losses}
        self.longest = max(self.longest, time.monotonic() - began)
        return losses, seconds


class _Part:
    """Some rows of a data set."""

    def __init__(self, rows: Any, numbers: list[int]) -> None:
        self.rows, self.numbers = rows, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, number: int) -> Any:
        return self.rows[self.numbers[number]]


def _numbers(names: list[str]) -> dict[str, list[int]]:
    """The rows of each split, by the names of their sets: `3f…-validation-cot` is of cot."""
    found: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        found.setdefault(name.rpartition(HELD_OUT)[2], []).append(number)
    return found
