"""Numbers of each optimiser step: one JSON line in <run>/metrics.jsonl and a point in TensorBoard's files."""

import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path

from omr import records
from omr.files import writing
from omr.workspace import RunFolder

LATEST = 1e11  # seconds since the epoch, the year 5138: what lies beyond is no time


def read(path: Path, until: int | None = None, tail: int | None = None) -> list[dict]:
    """The steps' numbers in order, each step once; a line that is cut off or has other things is left out.

    With `until` those up to this step, with `tail` those in the last so many bytes of the file. A loss may be
    NaN, as a training that diverges writes it.
    """
    rows: dict[int, dict] = {}
    for line in _lines(path, tail) if path.exists() else []:
        try:
            row = json.loads(line)
            step, when = records.of(int, row["step"]), records.of(float, row.get("time", 0.0))
            numbers = {key: float(value) for key, value in row.items() if type(value) in (int, float)}
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            continue
        if abs(when) < LATEST:
            rows[step] = {**rows.get(step, {}), **numbers, "step": step}
    return [rows[step] for step in sorted(rows) if until is None or step <= until]


def _lines(path: Path, tail: int | None) -> list[str]:
    with path.open("rb") as handle:
        if tail is not None:
            handle.seek(max(0, handle.seek(0, 2) - tail))
        return handle.read().decode(errors="replace").splitlines()


def median_step_seconds(rows: Sequence[dict]) -> float | None:
    """Seconds of a typical step of these; None where they are too few to tell.

    The median, because a new link of a chain begins with a long gap, which is no step.
    """
    times = [row["time"] for row in rows if "time" in row]
    gaps = sorted(after - before for before, after in itertools.pairwise(times))
    return gaps[len(gaps) // 2] if gaps else None


class Metrics:
    """Appends to a run's metrics; what an earlier attempt wrote after step `start` is taken back first."""

    def __init__(self, folder: RunFolder, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        kept = read(folder.metrics, start)
        with writing(folder.metrics) as aside:
            aside.write_text("".join(f"{json.dumps(row)}\n" for row in kept), encoding="utf-8")
        self._file = folder.metrics.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder.logs / "tensorboard"), purge_step=start + 1)

    def add(self, step: int, **numbers: float) -> None:
        """The numbers of a step."""
        self._file.write(json.dumps({"step": step, "time": round(time.time(), 3), **numbers}) + "\n")
        self._file.flush()
        for name, value in numbers.items():
            self._board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Before a checkpoint: what it stands on is written."""
        self._board.flush()

    def close(self) -> None:
        """End of training."""
        self._file.close()
        self._board.close()
