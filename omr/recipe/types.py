"""What a recipe consists of, as values: corpus, rounds, models, evaluation, and a run of them."""

from dataclasses import asdict, dataclass, field
from math import lcm
from pathlib import Path

from omr import records
from omr.files import Json
from omr.recipe.chat import Chat
from omr.recipe.editions import EDITIONS, PINNED, Edition

Number = int | float
SHIPPED = ("openmathreasoning", "tiny")  # the recipes that are in force where RECIPE names none


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
    # Further fields of the prompt, and where each comes from: a column, or a function `name()` of omr/data.
    fields: dict[str, str] = field(default_factory=dict)
    asks: str | None = None  # the configuration that an evaluation asks with, where it is another


@dataclass(frozen=True)
class Filter:
    """One condition on a row; a row that does not meet it is left out, and counted under `name`."""

    name: str
    splits: tuple[str, ...]  # that it applies to, where a round filters them
    column: str | None = None  # None: the solution's tokens are counted
    one_of: tuple[str, ...] = ()
    at_least: float | None = None  # the column's text as a number
    at_most: float | None = None
    absent: str | None = None  # a text that stands for no number: left out
    min_tokens: int | None = None

    @property
    def compares_numbers(self) -> bool:
        """Whether the column's text is read as a number."""
        return self.at_least is not None or self.at_most is not None


@dataclass(frozen=True)
class Columns:
    """The columns of a corpus, in the order of an SFT line; but for `flags` they are text."""

    names: tuple[str, ...]
    problem: str  # becomes `input`
    solution: str  # becomes `output`
    flags: tuple[str, ...] = ()  # true or false

    @property
    def texts(self) -> tuple[str, ...]:
        """Those that are text."""
        return tuple(name for name in self.names if name not in self.flags)

    def renamed(self, name: str) -> str:
        """A column's key in an SFT line."""
        return {self.problem: "input", self.solution: "output"}.get(name, name)


@dataclass(frozen=True)
class Corpus:
    """A dataset and what its formatting and filtering depend on; its name is the recipe's."""

    name: str
    source: Pin | None  # None: `files`, or omr/tiny/corpus.py makes it
    rows: dict[str, int]  # split -> rows as published, where that is known
    prompts: dict[str, Prompt]  # of each split
    prompt_tokenizer: Pin | Path | None  # whose chat template wraps the user message; None: tiny's own
    length_tokenizer: Pin | Path | None  # whose `encode` counts the solution's tokens
    filters: tuple[Filter, ...]
    columns: Columns
    prompt_folder: Path | None  # of YAML prompts; None: those of nemo-skills
    files: dict[str, Path] = field(default_factory=dict)  # split -> JSON lines, or a folder of parquet
    chat: Chat = field(default_factory=Chat)
    same_problem: str | None = None  # `name()`: what is the same of a problem, however a row words it

    @property
    def splits(self) -> tuple[str, ...]:
        """Its splits, in the recipe's order."""
        return tuple(self.prompts)

    def sources(self, split: str) -> dict[str, str]:
        """The fields of a split's prompt, and the column or formula that each is filled from."""
        return {"problem": self.columns.problem, **self.prompts[split].fields}

    def formulas(self, split: str) -> tuple[str, ...]:
        """The formulas that a split's prompt is filled from: `execution_count()`."""
        return tuple(dict.fromkeys(s for s in self.sources(split).values() if s.endswith("()")))

    def required(self, split: str) -> tuple[str, ...]:
        """The columns that no row of a split may lack."""
        columns = (s for s in self.sources(split).values() if not s.endswith("()"))
        return tuple(dict.fromkeys((self.columns.problem, self.columns.solution, *columns)))

    def filters_of(self, split: str) -> tuple[Filter, ...]:
        """The comparisons of columns that a filtered round makes in a split."""
        return tuple(f for f in self.filters if f.column and split in f.splits)

    def min_tokens(self, split: str) -> int | None:
        """The fewest tokens of a solution that a filtered round keeps in a split; None: any."""
        found = [f.min_tokens for f in self.filters if f.min_tokens and split in f.splits]
        return max(found, default=None)


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
    """What a published config.json says of its network; `families` has the rest."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int  # rows of the embedding
    tied: bool  # the output head is the embedding
    norm_epsilon: float
    dtype: str = "BF16"  # the weights' number type, in the words of safetensors
    family: str = "qwen2"
    head: int | None = None  # dimensions of a head; None: hidden / heads
    rope_scaling: Json = field(default_factory=dict, hash=False)  # as config.json has it; {}: the plain rope


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

    @property
    def folder(self) -> str:
        """Its word in paths and job names: behind the recipe's name, where that is not a shipped one."""
        return self.name if self.corpus in SHIPPED else f"{self.corpus}-{self.name}"


@dataclass(frozen=True)
class Evaluation:
    """Which problems a model is asked by default, and how an answer is drawn."""

    benchmark: str  # a data set of nemo-skills, `tiny`, or the path of a JSON-lines file
    subsets: tuple[str, ...]
    samples: int  # of each problem
    temperature: float  # 0: the likeliest token each time
    top_p: float  # tokens of so much probability together
    max_tokens: int  # of an answer
    problems: int | None = None  # so many of the benchmark's
    code_executions: int = 8  # of an answer in mode tir

    @property
    def own(self) -> bool:
        """Whether the problems come with the recipe, and not with nemo-skills."""
        return self.benchmark == "tiny" or self.benchmark.endswith(".jsonl")


@dataclass(frozen=True)
class Recipe:
    """A recipe file, read and checked."""

    name: str
    path: Path
    values: Json  # what the file says, as it stands there
    corpus: Corpus
    rounds: dict[str, Round]
    models: dict[str, Model]
    unlisted: frozenset[str]  # models for tests alone
    architectures: dict[str, Architecture]
    contexts: dict[str, dict[str, tuple[Number, Number]]]  # model -> key of config.json -> published, trained
    folders: dict[str, Path]  # bases that are folders of this machine
    trained_epsilon: float | None  # of RMSNorm in training; None: each model's own
    evaluation: Evaluation
    published: dict[tuple[str, str], tuple[tuple[float | None, float], ...]]  # (model, mode) -> each subset


@dataclass(frozen=True)
class Run:
    """One (model, round, variant, EDITION, NAME): everything about it that the recipe decides."""

    model: Model
    round: Round
    schedule: Schedule
    name: str | None = None
    edition: str = PINNED  # whose text of the training: one of EDITIONS

    @property
    def text(self) -> Edition:
        """What its edition says of the training."""
        return EDITIONS[self.edition]

    @property
    def key(self) -> str:
        """The run's word in paths and job names: `round2-paper-published-smoke`."""
        edition = None if self.edition == PINNED else self.edition
        return "-".join(filter(None, (self.round.key, edition, self.name)))

    @property
    def title(self) -> str:
        """How a person calls it: `7b round2-paper`."""
        return f"{self.model.folder} {self.key}"

    @property
    def sequence_divisor(self) -> int:
        """Sequences are padded to a multiple of this: 4, 4, 8, 8 down the table."""
        return sequence_divisor(self.model.tensor_parallel, self.model.context_parallel)

    def as_dict(self) -> Json:
        """Plain values for run.json."""
        return {**asdict(self), "key": self.key}

    @classmethod
    def from_dict(cls, values: Json) -> "Run":
        """What `as_dict` gave, read back from JSON; a ValueError for anything else."""
        run = records.of(cls, {key: value for key, value in values.items() if key != "key"}, "the run")
        if min(run.schedule.steps, run.model.batch) < 1:
            raise records.Odd("the run has no steps")
        if run.edition not in EDITIONS:
            raise records.Odd(f"the run is of the edition {run.edition!r}")
        return run


def sequence_divisor(tensor: int, context: int) -> int:
    """What sequences are padded to a multiple of, as NeMo-Skills computes it from the parallel sizes."""
    return lcm(tensor, 2 * context if context > 1 else 1)
