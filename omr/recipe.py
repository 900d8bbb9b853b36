"""Every published number: models, rounds, corpora. Standard library only.

Source of the numbers: NeMo-Skills, `docs/releases/openmathreasoning/training.md` at the commit in
docker/pins.env, unless a comment names another. What can be derived is derived here, once.
"""

from dataclasses import asdict, dataclass, field, replace
from math import lcm

from omr.errors import RequestError, choose, listing

SPLITS = ("cot", "tir", "genselect")


@dataclass(frozen=True)
class Pin:
    """A repository of the hub at one commit."""

    repo: str
    revision: str


@dataclass(frozen=True)
class Prompt:
    """How a split's problem becomes the `input` string (a NeMo-Skills prompt configuration)."""

    config: str | None  # None: the problem is the whole user message already
    code_tags: str | None = None
    execution_count: bool = False  # fill {total_code_executions} from the solution


@dataclass(frozen=True)
class Corpus:
    """A published dataset and what its formatting and filtering depend on."""

    name: str
    source: Pin | None  # None: omr/tiny/corpus.py makes it
    rows: dict[str, int]  # split -> rows as published
    prompts: dict[str, Prompt]
    prompt_tokenizer: Pin | None  # whose chat template wraps the user message
    length_tokenizer: Pin | None  # whose `encode` counts the solution's tokens
    olympiad_sources: tuple[str, ...] = ("aops_c5_contests_amp_programs", "aops_c6_high_school_olympiads")
    max_pass_rate: float = 0.3
    min_tokens: int = 5000


@dataclass(frozen=True)
class Round:
    """An SFT round; `key` is its word in every path."""

    key: str
    number: int
    variant: str | None
    steps: int
    filtered: tuple[str, ...]  # the splits that the round's filter applies to


@dataclass(frozen=True)
class Schedule:
    """Optimiser steps of a run and what follows from them."""

    steps: int
    warmup: int
    save_period: int
    averaged: tuple[int, ...]  # the steps whose checkpoints make final/


@dataclass(frozen=True)
class Architecture:
    """What a published config.json says of its network; omr/models/architecture.py has the rest of a Qwen2."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int  # rows of the embedding
    tied: bool  # the output head is the embedding
    norm_epsilon: float
    dtype: str = "BF16"  # the weights' number type, in the words of safetensors


@dataclass(frozen=True)
class Model:
    """A row of the recipe table."""

    name: str
    base: Pin | None  # None: omr/tiny/model.py makes it
    lr: float
    min_lr: float
    tensor_parallel: int
    context_parallel: int
    patched: bool  # the Math models ship a 4k context and need the rope patch
    rounds: tuple[int, ...] = (1, 2)
    corpus: str = "openmathreasoning"
    engine: str = "nemo-rl"
    nodes: int = 64
    gpus: int = 8
    batch: int = 1024  # SFT rows per optimiser step
    sequence_length: int = 32_768
    schedules: dict[str, Schedule] = field(default_factory=dict)  # round key -> its own, else derived
    parameters: float = 0.0  # rounded, for estimates of memory and disk


def derive(steps: int) -> Schedule:
    """The recipe's shape for any length: a tenth of warmup, four saves, their average.

    Every averaged step is a multiple of the save period or the last step; the recipe's own round 2
    left a save period of 7,500 on 3,000 steps, so that three of its four were never saved.
    """
    if steps < 4:
        raise RequestError(f"STEPS={steps} is too short: four checkpoints are averaged; use STEPS=4 or more")
    save = steps // 4
    return Schedule(steps, steps // 10, save, (save, 2 * save, 3 * save, steps))


ROUNDS = {
    r.key: r
    for r in (
        Round("round1", 1, None, 30_000, ()),
        Round("round2", 2, "recommended", 3_000, SPLITS),
        # The paper's second round left TIR and GenSelect unfiltered.
        Round("round2-paper", 2, "paper", 10_000, ("cot",)),
    )
}
VARIANTS = ("recommended", "paper")

_QWEN = "Qwen/Qwen2.5-"
# fmt: off
_QWEN_ROWS = (
    #     name    base model                                                           lr    min_lr TP CP patched
    Model("1.5b", Pin(_QWEN + "Math-1.5B", "4a83ca6e4526a4f2da3aa259ec36c259f66b2ab2"), 3e-4, 3e-7, 1, 2, True,  parameters=1.5e9),
    Model("7b",   Pin(_QWEN + "Math-7B",   "b101308fe89651ea5ce025f25317fea6fc07e96e"), 2e-4, 2e-7, 4, 2, True,  parameters=7.6e9),
    Model("14b",  Pin(_QWEN + "14B",       "97e1e76335b7017d8f67c08a19d103c0504298c9"), 1e-4, 1e-7, 8, 2, False, parameters=14.8e9),
    Model("32b",  Pin(_QWEN + "32B",       "1818d35814b8319459f4bd55ed1ac8709630f003"), 1e-4, 1e-7, 8, 4, False, parameters=32.8e9, rounds=(1,)),
)
# Of the rows that have a base; source: its config.json at the row's revision.
ARCHITECTURES = {
    #                    hidden layers heads kv inner vocabulary tied epsilon
    "1.5b": Architecture(1536, 28, 12, 2,  8960, 151936, True,  1e-6),
    "7b":   Architecture(3584, 28, 28, 4, 18944, 152064, False, 1e-6),
    "14b":  Architecture(5120, 48, 40, 8, 13824, 152064, False, 1e-5),
    "32b":  Architecture(5120, 64, 40, 8, 27648, 152064, False, 1e-5),
}
TRAINED_EPSILON: float | None = 1e-6  # of NeMo-RL's RMSNorm, as NeMo-Skills' SFT YAML has it; None: each model's own
# A 0.2 M-parameter Qwen2 that learns sums on two cores; its quarters would average an untrained model in: it averages the last four.
_TINY = Model(
    "tiny", None, 4e-3, 4e-6, 1, 1, True, parameters=0.2e6, corpus="tiny", engine="trl", nodes=1, gpus=0, batch=64, sequence_length=512,
    schedules={
        "round1": Schedule(400, 40, 20, (340, 360, 380, 400)),
        **dict.fromkeys(("round2", "round2-paper"), Schedule(120, 12, 10, (90, 100, 110, 120))),
    },
)
MODELS = {m.name: m for m in (_TINY, *_QWEN_ROWS)}
# For tests alone, and in no list: tiny in 24 steps of 8 rows, seconds of training for chains and kills.
MICRO = replace(
    _TINY, name="micro", batch=8,
    schedules={
        "round1": Schedule(24, 2, 4, (12, 16, 20, 24)),
        **dict.fromkeys(("round2", "round2-paper"), Schedule(12, 1, 2, (6, 8, 10, 12))),
    },
)
# fmt: on
# The long-context patch of the Math models: key -> (published, patched), as the recipe's sed writes them.
LONG_CONTEXT = {"max_position_embeddings": ("4096", "131072"), "rope_theta": ("10000", "500000.0")}
# What the others ship, and keep.
SHIPPED_CONTEXT = {"max_position_embeddings": 131072, "rope_theta": 1000000.0}

CORPORA = {
    c.name: c
    for c in (
        Corpus(
            "openmathreasoning",
            Pin("nvidia/OpenMathReasoning", "d3d08664755704f422af97d43a7ff0ded4bd95df"),
            {"cot": 3_201_061, "tir": 1_718_466, "genselect": 565_620},
            {
                "cot": Prompt("generic/math"),
                "tir": Prompt("openmath/tir", code_tags="openmath", execution_count=True),
                "genselect": Prompt(None),
            },
            Pin(_QWEN + "32B-Instruct", "5ede1c97bbab6ce5cda5812749b4c0bdf79b18dd"),
            Pin(_QWEN + "14B", "97e1e76335b7017d8f67c08a19d103c0504298c9"),
        ),
        # The same shape on one machine; omr/tiny/ holds its prompts and says how its rows are made.
        Corpus(
            "tiny",
            None,
            {"cot": 6_000, "tir": 3_000, "genselect": 1_000},
            {
                "cot": Prompt("tiny/math"),
                "tir": Prompt("tiny/tir", code_tags="tiny", execution_count=True),
                "genselect": Prompt(None),
            },
            None,
            None,
            min_tokens=51,
        ),
    )
}


@dataclass(frozen=True)
class Run:
    """One (model, round, variant, NAME): everything about it that the recipe decides."""

    model: Model
    round: Round
    schedule: Schedule
    name: str | None = None

    @property
    def key(self) -> str:
        """The run's word in paths and job names: `round2-paper-smoke`."""
        return f"{self.round.key}-{self.name}" if self.name else self.round.key

    @property
    def title(self) -> str:
        """How a person calls it: `7b round2-paper`."""
        return f"{self.model.name} {self.key}"

    @property
    def sequence_divisor(self) -> int:
        """Sequences are padded to a multiple of this: 4, 4, 8, 8 down the table."""
        return sequence_divisor(self.model.tensor_parallel, self.model.context_parallel)

    def as_dict(self) -> dict:
        """Plain values for run.json."""
        return {**asdict(self), "key": self.key}

    @classmethod
    def from_dict(cls, values: dict) -> "Run":
        """What `as_dict` gave, read back from JSON, where tuples have become lists."""
        model, round_row = dict(values["model"]), dict(values["round"])
        base, schedules = model.pop("base"), model.pop("schedules")
        model["rounds"], round_row["filtered"] = tuple(model["rounds"]), tuple(round_row["filtered"])
        return cls(
            Model(
                base=Pin(**base) if base else None,
                schedules={key: _schedule(each) for key, each in schedules.items()},
                **model,
            ),
            Round(**round_row),
            _schedule(values["schedule"]),
            values["name"],
        )


def _schedule(values: dict) -> Schedule:
    return Schedule(**{**values, "averaged": tuple(values["averaged"])})


def sequence_divisor(tensor: int, context: int) -> int:
    """What sequences are padded to a multiple of, as NeMo-Skills computes it from the parallel sizes."""
    return lcm(tensor, 2 * context if context > 1 else 1)


def model(name: str | None) -> Model:
    """The row of the table; a RequestError lists the rows."""
    return MICRO if name == MICRO.name else MODELS[choose("MODEL", name, MODELS)]


def corpus(name: str | None) -> Corpus:
    """The row of the corpus table; a RequestError lists the rows."""
    return CORPORA[choose("DATASET", name, CORPORA)]


def round_(number: str | int = 1, variant: str | None = None) -> Round:
    """The round of a number and, for round 2, a variant (default recommended)."""
    number = int(choose("ROUND", str(number), ("1", "2")))
    variant = choose("VARIANT", variant or VARIANTS[0], VARIANTS)
    if number == 1:
        if variant != VARIANTS[0]:
            raise RequestError(f"VARIANT={variant} filters round 2 only; add ROUND=2 or leave VARIANT out")
        return ROUNDS["round1"]
    return ROUNDS["round2" if variant == "recommended" else "round2-paper"]


def run(
    model_name: str | None,
    number: str | int = 1,
    variant: str | None = None,
    steps: int | None = None,
    name: str | None = None,
) -> Run:
    """The run that the user's words name; a RequestError for what the recipe does not have."""
    row, round_row = model(model_name), round_(number, variant)
    if round_row.number not in row.rounds:
        others = [m.name for m in MODELS.values() if round_row.number in m.rounds and m.corpus == row.corpus]
        raise RequestError(
            f"{row.name} trains in round 1 only (the recipe has no second round for it);"
            f" choose MODEL={listing(others)}, or ROUND=1"
        )
    schedule = derive(steps) if steps else row.schedules.get(round_row.key) or derive(round_row.steps)
    return Run(row, replace(round_row, steps=schedule.steps), schedule, name)


def modes(text: str | None) -> tuple[str, ...]:
    """`cot,tir` -> its splits in the recipe's order; all of them when unset."""
    wanted = [choose("MODES", word.strip(), SPLITS) for word in (text or ",".join(SPLITS)).split(",")]
    return tuple(split for split in SPLITS if split in wanted)
