"""Every documented setting, a row each: its meaning, its default, and who may have its value."""

import re
from dataclasses import dataclass
from typing import Any

from omr.errors import RequestError, listing

# A switch, on and off: click's own words (click.types.BoolParamType).
ON = ("1", "true", "t", "yes", "y", "on")
OFF = ("", "0", "false", "f", "no", "n", "off")
TYPOGRAPHIC_QUOTES = "“”„‟‘’‚‛«»‹›"
INVISIBLE = "\u00ad\u200b\u200e\u200f\u2060\ufeff"  # what comes along when a value is copied from a page


@dataclass(frozen=True)
class Form:
    """What a text may look like, so that a slip is told where it is read, and not by Slurm or a job."""

    pattern: re.Pattern[str]  # of the whole text
    fault: str  # what is said of any other: what it is not, and what to write


def _form(pattern: str, fault: str, flags: int = re.ASCII) -> Form:
    return Form(re.compile(pattern, flags), fault)


# sbatch(1), --time; its numbers may be of any size.
TIME_LIMIT = _form(
    r"(?P<m>\d+)(:(?P<s>\d+))?|(?P<h>\d+):(?P<hm>\d+):(?P<hms>\d+)"
    r"|(?P<d>\d+)-(?P<dh>\d+)(:(?P<dhm>\d+)(:(?P<dhms>\d+))?)?|(?i:unlimited|infinite)|-1",
    "is no time limit of Slurm's; write 90 (minutes), 4:00:00, 2-12 (days-hours) or UNLIMITED",
)
DECIMAL = _form(r"\d+(\.\d+)?", "is no number; write one like 0.6")
SHARE = _form(r"0?\.\d*[1-9]\d*|1(\.0*)?", "is no share; write a number up to 1, like 0.95")
MEMORY_SIZE = _form(r"(\d+(?:\.\d+)?)([KMGTkmgt]?)", "is no amount of memory; write 512M or 4G")
POINT_IN_TIME = _form(
    r"\d+(\.\d+)?|\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?",
    "is no time; give seconds from now, or a time like 2026-01-31T18:00",
)
PLAIN_NAME = _form(r"\w[\w.+@:/-]*", "is no plain name; use letters, digits, '.', '_' and '-'")
PLAIN_NAMES = _form(
    r"\w[\w.+@:/-]*(,\w[\w.+@:/-]*)*",
    "is no name, nor names with commas between; use letters, digits, '.', '_' and '-', without blanks",
)
RUN_NAME = _form(r"\w[\w.-]{0,39}", "is no name; use up to 40 letters, digits, '.', '_' and '-'")
WANDB_PROJECT = _form(
    r"[^/\\#?%:\s][^/\\#?%:\n]{0,127}",
    r"is no project of W&B; use up to 128 letters, without / \ # ? % and :",
    re.UNICODE,
)
URL = _form(r"https?://[^\s/?#]+\S*", "is no address; write it with https:// and without blanks")
COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
IMAGE_NAME = _form(  # the stage is added as its tag
    rf"(?:[\w.-]+(?::\d+)?/)?{COMPONENT}(?:/{COMPONENT})*",
    "is no image's name; use small letters, digits, '.', '_', '-' and '/', and no tag",
)
IMAGE_REFERENCE = _form(r"\S+", "is no image; write its reference without blanks")
MOUNT = r"\s*/[^:,\n]*(:/[^:,\n]*(:(ro|rw))?)?\s*"
MOUNT_LIST = _form(
    rf"({MOUNT})?(,({MOUNT})?)*", "is not /from:/to or /from:/to:ro; separate several by commas", re.UNICODE
)


def _odd_letter(value: str) -> str | None:
    """What is wrong with a value's letters, of any setting; None if nothing is."""
    if quote := next((end for end in (value[:1], value[-1:]) if end and end in TYPOGRAPHIC_QUOTES), None):
        return f"has a typographic quote ({quote}), which quotes nothing; write ' or \", or none"
    if unseen := next((letter for letter in value if letter in INVISIBLE), None):
        return f"has an invisible character (U+{ord(unseen):04X}); type the value again"
    return None


@dataclass(frozen=True)
class Setting:
    """One documented variable, and everything that the program has to know of it.

    A new one needs its row here and its place in the Makefile's WORDS; a machine fact also in .env.example.
    """

    name: str
    text: str
    default: str | None = None
    machine: bool = False  # a fact about this machine, for .env; the others are given with each command
    secret: bool = False
    kind: str = "text"  # or number (whole), switch
    least: int = 1  # of a number
    choices: tuple[str, ...] = ()  # empty: any text, or those of the recipe's tables
    path: str | None = (
        None  # names a file or folder to read (input) or write below (output): containers see it
    )
    of_run: bool = False  # names or shapes a run: a chain's jobs get it from their request
    for_jobs: bool = True  # False: speaks to one command, and no job is given it
    form: Form | None = None  # what a text may look like; None: anything

    def check(self, value: str, where: str = "") -> None:
        """A RequestError for a value that cannot be; it begins with `where`, and never shows a secret."""
        fault = _odd_letter(value) or self._fault(value)
        if fault:
            hidden = re.sub(r"(//)[^/@]*@", r"\1…@", value)  # a password in an address
            shown = hidden if hidden.isprintable() and len(hidden) <= 100 else f"{ascii(hidden)[:100]}"
            raise RequestError(f"{where}{self.name}{'' if self.secret else f'={shown}'} {fault}")

    def _fault(self, value: str) -> str | None:
        """What is wrong with a value, and what to write instead."""
        if self.kind == "number":
            return None if self._number(value) is not None else f"is not a whole number from {self.least} up"
        if self.kind == "switch" and value.strip().lower() not in (*ON, *OFF):
            return f"is neither on nor off; set {self.name}=1 or {self.name}=0"
        if self.choices and value not in self.choices:
            return f"is unknown; choose {listing(self.choices)}"
        return self.form.fault if self.form and not self.form.pattern.fullmatch(value) else None

    def number(self, value: str) -> int:
        """The value of a number; a RequestError for anything but a whole number from `least` up."""
        self.check(value)
        return self._number(value)

    def _number(self, value: str) -> int | None:
        try:
            number = int(value)
        except ValueError:
            return None
        return number if number >= self.least else None


def _request(name: str, text: str, default: str | None = None, **more: Any) -> Setting:
    return Setting(name, text, default, **more)


def _number(name: str, text: str, default: str | None = None, **more: Any) -> Setting:
    return Setting(name, text, default, kind="number", **more)


def _switch(name: str, text: str, **more: Any) -> Setting:
    return Setting(name, f"1: {text}", kind="switch", **more)


def _machine(name: str, text: str, default: str | None = None, **more: Any) -> Setting:
    return Setting(name, text, default, machine=True, **more)


def _secret(name: str, text: str) -> Setting:
    return Setting(name, text, machine=True, secret=True)


SETTINGS = {
    s.name: s
    for s in (
        _request(
            "RECIPE",
            "a recipe file, or the name of one in omr/recipes (default: the published one, and tiny)",
            path="input",
            of_run=True,
        ),
        _request("FROM", "new-recipe: the recipe that is copied", "openmathreasoning", for_jobs=False),
        _request("MODEL", "row of the recipe table: tiny, 1.5b, 7b, 14b, 32b", of_run=True),
        _request("ROUND", "SFT round: 1, 2", "1", of_run=True, choices=("1", "2")),
        _request(
            "VARIANT",
            "filter of round 2: recommended (the default: all splits), paper (CoT only)",
            of_run=True,
        ),
        _request(
            "EDITION",
            "whose text of training: pinned, published (as the models were trained), current (newest page)",
            "pinned",
            of_run=True,
            choices=("pinned", "published", "current"),
        ),
        _request("DATASET", "row of the corpus table: openmathreasoning, tiny (default: the recipe's first)"),
        _request("MODES", "splits to use, with commas (default: all of the corpus)", of_run=True),
        _request("RAW", "local folder of the corpus's parquet files: nothing is downloaded", path="input"),
        _request("BASE", "local copy of the base model: nothing is downloaded", path="input"),
        _number("SEED", "seed of the mix", "0", least=0, of_run=True),
        _request("NAME", "sets a run apart; becomes part of the folder's name", of_run=True, form=RUN_NAME),
        _number("STEPS", "a short run: optimiser steps, the schedule derived from them", of_run=True),
        _number("LIMIT", "a short run: rows of data", of_run=True),
        _number("RECOVERY", "also save every so many steps, and keep the newest two of these", of_run=True),
        _request(
            "ENGINE",
            "what trains: trl, nemo-rl (default: the recipe row's own)",
            of_run=True,
            choices=("trl", "nemo-rl"),
        ),
        _request(
            "LAUNCHER",
            "who submits a chain or an evaluation: sbatch, ns",
            "sbatch",
            choices=("sbatch", "ns"),
            for_jobs=False,
        ),
        _number("NUM_TRAINING_JOBS", "links of the Slurm chain", "1", for_jobs=False),
        _request(
            "DEADLINE",
            "save and stop by then: seconds from now, or a time like 2026-01-31T18:00",
            form=POINT_IN_TIME,
        ),
        _number("NODES", "nodes of a training job (default: the recipe's 64)"),
        _number("GPUS", "GPUs a node (default: the recipe's 8)", least=0),
        _request("OVERRIDES", "extra NeMo-RL keys: a.b=c d.e=f", of_run=True),
        _number("SHARDS", "tasks of the data stage, and of an evaluation, on Slurm", "1"),
        _request("BAD_ROWS", "a malformed row: stop, skip", "stop", choices=("stop", "skip")),
        _request(
            "ALLOW",
            "rows: a corpus with other counts than published; server: one whose model has another name",
            choices=("rows", "server"),
        ),
        _request("STATS", "token lengths over: full, sample", "full", choices=("full", "sample")),
        _switch("EVAL", "evaluate at the end of a chain", for_jobs=False),
        _request("MODE", "how a model is asked: cot (the default), tir, genselect, or several with commas"),
        _request("BENCHMARK", "problems: comp-math-24-25 (tiny: its own), or another set of nemo-skills"),
        _request(
            "PROBLEMS", "problems of one's own, JSON lines with problem and expected_answer", path="input"
        ),
        _number("SAMPLES", "answers to each problem (default: 64; tiny 3)"),
        _request("TEMPERATURE", "of the sampling; 0: the likeliest token (default: 0.6)", form=DECIMAL),
        _request("TOP_P", "of the sampling (default: 0.95)", form=SHARE),
        _number("MAX_TOKENS", "longest answer to a problem (default: 32768; tiny 96)"),
        _switch("BEFORE", "evaluate also the model that the run started from"),
        _request(
            "SOLUTIONS", "MODE=genselect: chooses among those of cot, tir", "tir", choices=("cot", "tir")
        ),
        _request("SERVER", "http://…: a server of the model that runs already", form=URL),
        _request("Q", "ask: the problem", for_jobs=False),
        _switch("VERIFY", "hash the data file before training, and all weights before averaging"),
        _switch("FOLLOW", "keep following the logs", for_jobs=False),
        _switch("JSON", "machine-readable answer", for_jobs=False),
        _switch("DRY_RUN", "print exactly what would run, write nothing", for_jobs=False),
        _switch("FORCE", "redo a finished stage", for_jobs=False),
        _switch("YES", "really remove what prune lists", for_jobs=False),
        _request(
            "STAGE",
            "image, shell, image-check: of which image: tools, train (default: both)",
            choices=("tools", "train"),
        ),
        _request("NEMO_RL_SOURCE", "a checkout of the pinned NeMo-RL, for test-nemo", for_jobs=False),
        _machine("WORKSPACE", "where everything lands", "./workspace", path="output"),
        _machine(
            "RUNNER",
            "where a stage runs: host, docker, slurm (default: host for tiny)",
            choices=("host", "docker", "slurm"),
            for_jobs=False,
        ),
        _machine(
            "SANDBOX",
            "what isolates the code that a model writes: bwrap, none (its code can then do all that you can)",
            "bwrap",
            choices=("bwrap", "none"),
        ),
        _number("WORKERS", "worker processes of the data stage (default: the cores)", machine=True),
        _machine("MEMORY", "memory of the data stage, e.g. 4G (default: 0.2 GB a worker)", form=MEMORY_SIZE),
        _machine("TOKENIZER", "local folder in place of the prompt tokenizer's hub id", path="input"),
        _machine("LENGTH_TOKENIZER", "local folder in place of the length tokenizer's hub id", path="input"),
        _machine("NEMO_SKILLS", "local source of nemo-skills in place of its git repository"),
        _machine("IMAGE", "name of the images that make image builds", "omr", form=IMAGE_NAME),
        _machine(
            "TOOLS_BASE",
            "base image in place of the pinned one of tools (a mirror, a stand-in)",
            form=IMAGE_REFERENCE,
        ),
        _machine("TRAIN_BASE", "base image in place of the pinned NeMo-RL one", form=IMAGE_REFERENCE),
        _machine(
            "TOOLS_TIER",
            "what the tools image holds: train, data (without torch)",
            "train",
            choices=("train", "data"),
        ),
        _machine("APT_MIRROR", "mirror of the base's packages, for image builds", form=URL),
        _machine("CONTAINER", "image for Slurm jobs: a .sqsh path or a registry reference"),
        _machine("MOUNTS", "extra mounts of the container: /from:/to,/from:/to", form=MOUNT_LIST),
        _machine("ACCOUNT", "Slurm account", form=PLAIN_NAME),
        _machine("PARTITION", "Slurm partition of training jobs, or several with commas", form=PLAIN_NAMES),
        _machine("CPU_PARTITION", "Slurm partition of CPU stages (default: PARTITION)", form=PLAIN_NAMES),
        _machine("QOS", "Slurm quality of service", form=PLAIN_NAMES),
        _machine("TIME", "time limit of a job, e.g. 4:00:00 (default: the partition's)", form=TIME_LIMIT),
        _number(
            "MARGIN",
            "seconds before a job's end by which it saves (default: learned from its saves)",
            least=0,
            machine=True,
        ),
        _machine("NEMO_RL", "NeMo-RL's folder (default: the image's /opt/nemo-rl)"),
        _machine("CA_BUNDLE", "extra certificate authorities, a PEM file (proxies)", path="input"),
        _machine("HF_HOME", "cache of the hub client", path="output"),
        _machine("HF_ENDPOINT", "mirror of the hub", form=URL),
        _machine("HF_HUB_OFFLINE", "1: never ask the hub"),
        _machine(
            "WANDB_PROJECT", "W&B project (training logs there when WANDB_API_KEY is set)", form=WANDB_PROJECT
        ),
        _machine("WANDB_ENTITY", "W&B team", form=PLAIN_NAME),
        _secret("HF_TOKEN", "token of the hub, for gated or private repositories"),
        _secret("WANDB_API_KEY", "key of Weights & Biases"),
        _secret("OPENAI_API_KEY", "key of the server that SERVER names, where it wants one"),
        _secret("NGC_API_KEY", "key of nvcr.io, to import the training image"),
    )
}
# Other programs' variables that a site may have to set; passed on as they are.
FOREIGN = ("NCCL_", "UCX_", "OMP_", "CUDA_", "HF_", "WANDB_", "RAY_", "NRL_", "PIP_", "SBATCH_", "TORCH_")
FOREIGN_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
