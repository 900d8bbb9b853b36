"""How many bytes and files a request would leave on the disk, by the recipe's numbers."""

from dataclasses import dataclass

from omr import manifest, recipe
from omr.cluster import plan
from omr.data import corpus
from omr.data.request import DataRequest
from omr.data.stage import SCRATCH
from omr.errors import RequestError
from omr.files import human
from omr.reports.doctor.request import StageRequest
from omr.request import TrainRequest
from omr.run import checkpoints
from omr.workspace import Workspace

DOWNLOAD = 49.6 / 114.4  # bytes of parquet for a byte of text, as published (GB)
SHARD = 21_700  # rows of a shard as published: 3,201,061 rows of cot in 144 files, and so on
FILES_A_GPU = 2  # of a distributed checkpoint: Megatron-Core's writer has two threads on each rank
FILES_A_MODEL = 20  # of a folder in Hugging Face format, and of an engine's own state
DOWNLOADED, SCRATCHED = "the download", "its scratch"
SHARED = (DOWNLOADED, SCRATCHED)  # which both rounds use, one after the other
TINY = 1e9  # bytes of the tiny recipe's whole workspace at most


@dataclass(frozen=True)
class Sizes:
    """What is planned, by what it is for: (name, bytes, files)."""

    parts: tuple[tuple[str, int, int], ...] = ()

    @property
    def bytes(self) -> int:
        """All of it."""
        return sum(size for _, size, _ in self.parts)

    @property
    def files(self) -> int:
        """All of it."""
        return sum(count for _, _, count in self.parts)

    def words(self) -> str:
        """`the data 149 GB, checkpoints 630 GB`."""
        return ", ".join(f"{name} {human(size)}" for name, size, _ in self.parts) or "little"


def of(request: StageRequest) -> Sizes:
    """What a target would write beside what is there already."""
    parts: list[tuple[str, int, int]] = []
    if request.target == "demo":
        return Sizes((("the demo", int(TINY), 1000),))
    if request.target in ("data", "pipeline"):
        parts += [part for each in request.data for part in _of_data(each)]
    if request.target in ("model", "pipeline") and request.train:
        parts += _of_base(request.train, request.workspace)
    if request.trains_a_model:
        for train in request.trains:
            parts += _of_training(train, request.workspace)
    if request.target in ("average", "publish") and request.train:
        parts.append(("the final model", int(2 * request.train.run.model.parameters), FILES_A_MODEL))
    merged: dict[str, tuple[int, int]] = {}
    for name, size, count in parts:
        before = (0, 0) if name in SHARED else merged.get(name, (0, 0))
        merged[name] = (before[0] + size, before[1] + count)
    return Sizes(tuple((name, *both) for name, both in merged.items()))


def _of_data(data: DataRequest) -> list[tuple[str, int, int]]:
    """The download where it is not there, and the lines with their scratch; nothing for a finished file."""
    if manifest.read(data.output) is not None:
        return []
    published = {split: data.corpus.rows.get(split, 0) for split in data.modes}
    taken = {split: min(rows, data.limit or rows) for split, rows in published.items()}
    text, whole = (int(sum(rows.values()) * plan.ROW_BYTES) for rows in (taken, published))
    shards = sum(published.values()) // SHARD + len(published)
    found = [("the data", text, 10), (SCRATCHED, int(text * (SCRATCH - 1)), 2 * shards + 100)]
    if data.corpus.source and not _downloaded(data):
        found.insert(0, (DOWNLOADED, int(whole * DOWNLOAD), shards))
    return found


def _downloaded(data: DataRequest) -> bool:
    """Whether the corpus's shards lie there, or are given by RAW."""
    try:
        return bool(corpus.shards(data.folder, data.modes))
    except RequestError:
        return False


def _of_base(train: TrainRequest, workspace: Workspace) -> list[tuple[str, int, int]]:
    """The base model in bf16; nothing where it is there."""
    model = train.run.model
    if manifest.read(workspace.model(model.folder)) is not None:
        return []
    return [("the base model", int(2 * model.parameters), FILES_A_MODEL)]


def _of_training(train: TrainRequest, workspace: Workspace) -> list[tuple[str, int, int]]:
    """The run's folder at its fullest, less what it has; NeMo-RL's form of data and base too."""
    folder, model = workspace.run(train.run), train.run.model
    if manifest.read(folder.final) is not None:
        return []
    numbers = plan.numbers(train, workspace)
    saves = len(train.run.schedule.averaged) + 2  # the averaged ones and the newest two
    have = min(saves, len(checkpoints.steps(folder.checkpoints)))
    ranks = train.job_nodes * max(1, train.job_gpus)
    files = (saves - have) * (FILES_A_GPU * ranks + FILES_A_MODEL) + (saves - 1) * FILES_A_MODEL
    found = [("checkpoints", numbers.disk - have * numbers.checkpoint, files)]
    if train.engine == "nemo-rl":
        text = int((numbers.rows or sum(_rows(train))) * plan.ROW_BYTES)
        found.append(("prepared data", text, 100))
        found.append(("the converted base", int(2 * model.parameters), FILES_A_GPU * ranks))
    return found


def _rows(train: TrainRequest) -> list[int]:
    """The rows that the corpus is published with, where its file is not made yet."""
    known = recipe.corpus(train.run.model.corpus).rows
    rows = [known.get(split, 0) for split in train.modes]
    return [min(count, train.limit or count) for count in rows]
