"""What the one-box engine reads, <run>/trl.yaml: made from a frozen run, written and read back."""

import json
from dataclasses import asdict, dataclass

import yaml

from omr import records
from omr.files import Json, write_text
from omr.run.frozen import FrozenRun
from omr.run.validation import ValidationFile
from omr.workspace import RunFolder

RECOMPUTE_FROM = 1e8  # parameters


@dataclass(frozen=True)
class DataFile:
    """The SFT file that is trained on."""

    path: str
    sha256: str  # hex digest
    size: int  # bytes
    rows: int  # in the whole file
    limit: int | None  # train on the first so many rows; None: on all


@dataclass(frozen=True)
class EngineConfig:
    """trl.yaml. Rates, decay and seed are those of the recipe and of NeMo-Skills' sft.yaml."""

    title: str  # the run's name in messages
    identity: str  # hex digest of the frozen request; every checkpoint carries it
    model: str  # folder of the model that training starts from
    data: DataFile
    steps: int  # optimiser steps
    warmup: int  # steps in which the learning rate rises from 0 to `lr`
    save_period: int  # steps from one checkpoint to the next
    averaged: tuple[int, ...]  # steps whose checkpoints become final/
    batch: int  # rows of the SFT file in an optimiser step, over all processes
    sequence_length: int  # tokens of a micro-batch of packed rows
    longest: int  # tokens of a row that is trained
    lr: float  # highest learning rate
    min_lr: float  # learning rate at the end of its cosine
    gpu: bool  # train on GPUs; False: on the CPU
    packed: bool  # set rows end to end, which a GPU wants; False: pad them, which a CPU wants
    clip: float  # largest norm of a step's gradient; 0.0: it is not clipped
    betas: tuple[float, float] = (0.9, 0.98)  # of AdamW
    eps: float = 1e-8  # of AdamW
    weight_decay: float = 0.01
    seed: int = 42
    recovery: int | None = None  # steps from one save for recovery to the next; None: there are none
    threads: int = 2  # on a CPU; another number adds up in another order, and the last bits differ
    validation: tuple[ValidationFile, ...] = ()  # rows of held-out problems, by split

    def saves(self, step: int) -> bool:
        """Whether the schedule has a checkpoint after this step."""
        return step % self.save_period == 0 or step == self.steps

    def saves_for_recovery(self, step: int) -> bool:
        """Whether a checkpoint is made after this step that goes when two newer ones are there."""
        return self.recovery is not None and step % self.recovery == 0

    def as_json(self) -> Json:
        """Its form on disk. A run without held-out rows has the keys that it had before there were any."""
        values = json.loads(json.dumps(asdict(self), default=str))  # YAML has no tuples, and no paths
        if not self.validation:
            del values["validation"]
        return values


def engine_config(frozen: FrozenRun, gpus: int | None = None, recovery: int | None = None) -> EngineConfig:
    """The configuration of a frozen run.

    `gpus`: how many it trains on, 0 is the CPU, None the recipe's; `recovery`: steps between saves for it.
    """
    run = frozen.run
    model, schedule = run.model, run.schedule
    gpu = bool(model.gpus if gpus is None else gpus)
    data = frozen.data
    return EngineConfig(
        title=run.title,
        identity=frozen.run_identity,
        model=str(frozen.base.path),
        data=DataFile(str(data.path), data.sha256, data.size, data.rows, frozen.limit),
        steps=schedule.steps,
        warmup=schedule.warmup,
        save_period=schedule.save_period,
        averaged=schedule.averaged,
        batch=model.batch,
        sequence_length=model.sequence_length,
        longest=model.sequence_length - (not run.text.trains_full_rows),
        lr=model.lr,
        min_lr=model.min_lr,
        gpu=gpu,
        packed=gpu,
        clip=run.text.clip,
        recovery=recovery,
        validation=data.validation,
    )


def to_yaml(config: EngineConfig) -> str:
    """The text of trl.yaml."""
    return yaml.safe_dump(config.as_json(), sort_keys=False, allow_unicode=True)


def write_config(folder: RunFolder, config: EngineConfig) -> None:
    """Write trl.yaml, whole or not at all."""
    write_text(folder.engine_yaml("trl"), to_yaml(config))


def read_config(folder: RunFolder) -> EngineConfig:
    """Read trl.yaml. An OmrError says that it is damaged."""
    path = folder.engine_yaml("trl")
    remedy = "remove it and run make train again"
    with records.checked(path, remedy):
        return records.of(EngineConfig, records.read_yaml(path, remedy))


def recomputes(parameters: float) -> bool:
    """Whether a model of so many parameters computes its activations again in the backward pass.

    That takes a third more time and saves most of the memory beside the weights: a large model needs it.
    """
    return parameters > RECOMPUTE_FROM
