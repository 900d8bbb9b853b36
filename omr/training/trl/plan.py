"""A run -> what the one-box engine reads: <run>/trl.yaml. No torch here."""

import json
import os
from dataclasses import asdict, dataclass

import yaml

from omr.errors import OmrError
from omr.files import write_text
from omr.run.frozen import FrozenRun
from omr.workspace import RunFolder

THREADS = 2  # on a CPU; another number adds up in another order, and gives other last bits
CPU_TOKENS = 8192  # of a padded micro-batch: small enough to stay in the caches
RECOMPUTED = 1e8  # parameters from which on activations are computed again rather than kept


@dataclass(frozen=True)
class Plan:
    """Everything that the engine reads. Rates and decay: the recipe's and NeMo-Skills' sft.yaml's."""

    title: str
    identity: str
    model: str  # the folder that training starts from
    data: dict  # path, size (bytes), sha256, rows, limit
    steps: int
    warmup: int
    save_period: int
    averaged: tuple[int, ...]
    batch: int  # rows of the SFT file a step
    sequence_length: int
    lr: float
    min_lr: float
    gpu: bool
    packed: bool  # rows set end to end instead of padded: what a GPU wants and a CPU does not
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: float = 0.01
    clip: float = 1.0  # NeMo-RL's Megatron default
    seed: int = 42
    threads: int = THREADS

    def saved(self, step: int) -> bool:
        """Whether the schedule saves after this step."""
        return step % self.save_period == 0 or step == self.steps


def plan(frozen: FrozenRun, gpus: int | None = None) -> Plan:
    """The engine's numbers of a frozen run; 0 GPUs: on the CPU (default: the recipe's)."""
    run = frozen.run
    model, schedule = run.model, run.schedule
    gpu = bool(model.gpus if gpus is None else gpus)
    return Plan(
        title=run.title,
        identity=frozen.run_identity,
        model=str(frozen.base.path),
        data={**frozen.request_json()["data"], "limit": frozen.limit},
        steps=schedule.steps,
        warmup=schedule.warmup,
        save_period=schedule.save_period,
        averaged=schedule.averaged,
        batch=model.batch,
        sequence_length=model.sequence_length,
        lr=model.lr,
        min_lr=model.min_lr,
        gpu=gpu,
        packed=gpu,
    )


def text(planned: Plan) -> str:
    """trl.yaml."""
    return yaml.safe_dump(json.loads(json.dumps(asdict(planned))), sort_keys=False, allow_unicode=True)


def write(folder: RunFolder, planned: Plan) -> None:
    """Write trl.yaml, whole or not at all."""
    write_text(folder.engine_yaml("trl"), text(planned))


def read(folder: RunFolder) -> Plan:
    """Read trl.yaml; damage is an OmrError."""
    path = folder.engine_yaml("trl")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Plan(**{**values, "averaged": tuple(values["averaged"]), "betas": tuple(values["betas"])})
    except (yaml.YAMLError, TypeError, KeyError):
        raise OmrError(f"{path}: is damaged; remove it and run make train again") from None


def recomputes(parameters: float) -> bool:
    """Whether activations are computed again in the backward pass, to save memory."""
    return parameters > RECOMPUTED


def share_cores() -> None:
    """Before torch is imported: its threads sleep while they wait for each other, rather than spin.

    Spinning gains a little on an idle machine; where another process wants the cores it made a step of the
    tiny recipe nine times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
