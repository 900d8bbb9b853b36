"""NeMo-RL's loss on held-out rows, told for each split: what the driver puts in place of its `validate`.

Runs in NeMo-RL's own environment. Its `validate` gives the mean over one loader's rows; here it is run over
the rows of each split in turn, and the mean over the trained tokens of all of them follows.
"""

import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omr.run.validation import LOSS, loss_of

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

Losses = dict[str, float]


class CountedPolicy:
    """NeMo-RL's policy, which also counts the trained tokens of what is measured."""

    def __init__(self, policy: Any, alive: Callable[[], object]) -> None:
        self._policy, self._alive, self.tokens = policy, alive, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def train(self, data: Mapping[str, Any], *given: object, **named: object) -> Mapping[str, Any]:
        """A batch, whose tokens count as `validate` counts them."""
        found = self._policy.train(data, *given, **named)
        if found["all_mb_metrics"]:
            self.tokens += float((data["sample_mask"].unsqueeze(-1) * data["token_mask"]).sum())
        self._alive()
        return found


class HeldOut:
    """The held-out rows of a training: measures the loss on them, and knows how long that takes and when.

    `measure` is NeMo-RL's `validate`; `alive` is called after each batch, so that nobody takes a long
    measurement for an engine that hangs.
    """

    def __init__(self, measure: Callable[..., tuple[dict, dict]], alive: Callable[[], object]) -> None:
        self.measure, self.alive = measure, alive
        self.rows: dict[str, range] = {}  # of each split, in NeMo-RL's data set; none is held out: empty
        self.step: int | None = None  # the newest that was told
        self._config: Mapping[str, Any] = {}
        self._longest = 0.0  # seconds of the longest measurement so far
        self._untaken = 0.0  # seconds of those since `take_seconds`

    def begin(self, config: Mapping[str, Any], dataset: Any) -> None:
        """Learn which rows are which split's, before anything is trained; ends the process if it cannot."""
        if dataset is None:
            return
        self._config = config
        splits = [Path(each["data_path"]).stem for each in config["data"]["validation"]]
        # NeMo-RL puts the data sets end to end, and each row has the name of its own.
        counts = [len(list(rows)) for _, rows in itertools.groupby(dataset.dataset["task_name"])]
        if len(counts) != len(splits):
            sys.exit(
                f"error: the held-out rows of {', '.join(splits)} are {len(counts)} data sets to NeMo-RL;"
                " start it by make train, which prepares them"
            )
        ends = list(itertools.accumulate(counts, initial=0))
        self.rows = {split: range(*ends[n : n + 2]) for n, split in enumerate(splits)}

    def validate(
        self, policy: Any, val_dataloader: "DataLoader | None", *given: object, **named: object
    ) -> tuple[Losses, dict[str, float]]:
        """The losses by their names in metrics.jsonl, and NeMo-RL's timings.

        A split without a trained token is left out. The training draws the random numbers that it would draw
        without.
        """
        if val_dataloader is None or not self.rows:
            return self.measure(policy, val_dataloader, *given, **named)
        import torch

        began = time.monotonic()
        losses: Losses = {}
        timings: dict[str, float] = {}
        total = tokens = 0.0
        with torch.random.fork_rng(devices=[]):  # a loader draws the seed of its workers
            for split, loader in self._loaders(val_dataloader):
                counted = CountedPolicy(policy, self.alive)
                found, took = self.measure(counted, loader, *given, **named)
                for name, seconds in took.items():
                    timings[name] = timings.get(name, 0.0) + seconds
                if counted.tokens:
                    losses[loss_of(split)] = float(found[LOSS])
                    total += losses[loss_of(split)] * counted.tokens
                    tokens += counted.tokens
        seconds = time.monotonic() - began
        self._longest, self._untaken = max(self._longest, seconds), self._untaken + seconds
        return ({LOSS: total / tokens, **losses} if tokens else {}), timings

    def _loaders(self, whole: "DataLoader") -> Iterator[tuple[str, "DataLoader"]]:
        """A loader like the one of all rows, for each split's."""
        from torch.utils.data import Subset

        for split, rows in self.rows.items():
            yield (
                split,
                type(whole)(
                    Subset(whole.dataset, rows),
                    batch_size=whole.batch_size,
                    shuffle=False,
                    collate_fn=whole.collate_fn,
                    drop_last=False,
                    num_workers=whole.num_workers,
                ),
            )

    def take_seconds(self) -> float:
        """Seconds of the measurements since this was asked last."""
        taken, self._untaken = self._untaken, 0.0
        return taken

    def seconds_before_next_save(self, step_seconds: float) -> float:
        """What a measurement adds to the next step, whose checkpoint comes after it; 0.0 without one.

        As long as the longest so far. Before the first, which is guessed, a batch is given a training step's
        time, of which it takes about a third. Asked after a step and before it is told.
        """
        due = self.rows and (self.step is None or self._measured_at(self.step + 2))
        return (self._longest or self._batches() * step_seconds) if due else 0.0

    def _measured_at(self, step: int) -> bool:
        sft = self._config["sft"]
        period = sft["val_period"]
        at_end = sft["val_at_end"] and step >= sft["max_num_steps"]
        return at_end or (period > 0 and step % period == 0)

    def _batches(self) -> float:
        """Batches of a measurement, in the size of a training step's."""
        sft, step_rows = self._config["sft"], self._config["policy"]["train_global_batch_size"]
        size, most = sft["val_global_batch_size"], sft["val_batches"]
        batches = [math.ceil(len(rows) / size) for rows in self.rows.values()]
        return sum(min(n, most) if most > 0 else n for n in batches) * size / step_rows
