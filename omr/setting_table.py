"""Every documented setting, a row each: its meaning, its default, and who may have its value."""

from dataclasses import dataclass
from typing import Any

from omr.errors import RequestError


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

    def number(self, value: str) -> int:
        """The value of a number; a RequestError for anything but a whole number from `least` up."""
        try:
            number = int(value)
        except ValueError:
            number = None
        if number is None or number < self.least:
            raise RequestError(f"{self.name}={value} is not a whole number from {self.least} up")
        return number


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
        _request("MODEL", "row of the recipe table: tiny, 1.5b, 7b, 14b, 32b", of_run=True),
        _request("ROUND", "SFT round: 1, 2", "1", of_run=True, choices=("1", "2")),
        _request(
            "VARIANT",
            "filter of round 2: recommended (all splits), paper (CoT only)",
            "recommended",
            of_run=True,
            choices=("recommended", "paper"),
        ),
        _request("DATASET", "row of the corpus table: openmathreasoning, tiny", "openmathreasoning"),
        _request("MODES", "splits to use", "cot,tir,genselect", of_run=True),
        _request("RAW", "local folder of the corpus's parquet files: nothing is downloaded", path="input"),
        _request("BASE", "local copy of the base model: nothing is downloaded", path="input"),
        _number("SEED", "seed of the mix", "0", least=0, of_run=True),
        _request("NAME", "sets a run apart; becomes part of the folder's name", of_run=True),
        _number("STEPS", "a short run: optimiser steps, the schedule derived from them", of_run=True),
        _number("LIMIT", "a short run: rows of data", of_run=True),
        _request(
            "ENGINE",
            "what trains: trl, nemo-rl (default: the recipe row's own)",
            of_run=True,
            choices=("trl", "nemo-rl"),
        ),
        _request(
            "LAUNCHER",
            "who submits the chain: sbatch, ns",
            "sbatch",
            choices=("sbatch", "ns"),
            for_jobs=False,
        ),
        _number("NUM_TRAINING_JOBS", "links of the Slurm chain", "1", for_jobs=False),
        _request("DEADLINE", "save and stop by then: seconds from now, or a time like 2026-01-31T18:00"),
        _number("NODES", "nodes of a training job (default: the recipe's 64)"),
        _number("GPUS", "GPUs a node (default: the recipe's 8)", least=0),
        _request("OVERRIDES", "extra NeMo-RL keys: a.b=c d.e=f", of_run=True),
        _number("SHARDS", "tasks of the data stage on Slurm", "1"),
        _request("BAD_ROWS", "a malformed row: stop, skip", "stop", choices=("stop", "skip")),
        _request(
            "ALLOW", "rows: a corpus with other counts of rows than the published ones", choices=("rows",)
        ),
        _request("STATS", "token lengths over: full, sample", "full", choices=("full", "sample")),
        _switch("EVAL", "evaluate at the end of a chain", for_jobs=False),
        _request(
            "PROBLEMS",
            "held-out problems, JSON lines with problem and expected_answer (default: tiny's own)",
            path="input",
        ),
        _number("MAX_TOKENS", "longest answer to a held-out problem"),
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
        _machine("WORKSPACE", "where everything lands", "./workspace", path="output"),
        _machine(
            "RUNNER",
            "where a stage runs: host, docker, slurm (default: host for tiny)",
            choices=("host", "docker", "slurm"),
            for_jobs=False,
        ),
        _number("WORKERS", "worker processes of the data stage (default: the cores)", machine=True),
        _machine("MEMORY", "memory of the data stage, e.g. 4G (default: 0.2 GB a worker)"),
        _machine("TOKENIZER", "local folder in place of the prompt tokenizer's hub id", path="input"),
        _machine("LENGTH_TOKENIZER", "local folder in place of the length tokenizer's hub id", path="input"),
        _machine("NEMO_SKILLS", "local source of nemo-skills in place of its git repository"),
        _machine("IMAGE", "name of the images that make image builds", "omr"),
        _machine("TOOLS_BASE", "base image in place of the pinned one of tools (a mirror, a stand-in)"),
        _machine("TRAIN_BASE", "base image in place of the pinned NeMo-RL one"),
        _machine(
            "TOOLS_TIER",
            "what the tools image holds: train, data (without torch)",
            "train",
            choices=("train", "data"),
        ),
        _machine("APT_MIRROR", "mirror of the base's packages, for image builds"),
        _machine("CONTAINER", "image for Slurm jobs: a .sqsh path or a registry reference"),
        _machine("MOUNTS", "extra mounts of the container: /from:/to,/from:/to"),
        _machine("ACCOUNT", "Slurm account"),
        _machine("PARTITION", "Slurm partition of training jobs"),
        _machine("CPU_PARTITION", "Slurm partition of CPU stages (default: PARTITION)"),
        _machine("QOS", "Slurm quality of service"),
        _machine("TIME", "time limit of a job, e.g. 4:00:00 (default: the partition's)"),
        _machine("MARGIN", "seconds before a job's end by which it saves (default: learned from its saves)"),
        _machine("NEMO_RL", "NeMo-RL's folder (default: the image's /opt/nemo-rl)"),
        _machine("CA_BUNDLE", "extra certificate authorities, a PEM file (proxies)", path="input"),
        _machine("HF_HOME", "cache of the hub client", path="output"),
        _machine("HF_ENDPOINT", "mirror of the hub"),
        _machine("HF_HUB_OFFLINE", "1: never ask the hub"),
        _machine("WANDB_PROJECT", "W&B project (training logs there when WANDB_API_KEY is set)"),
        _machine("WANDB_ENTITY", "W&B team"),
        _secret("HF_TOKEN", "token of the hub, for gated or private repositories"),
        _secret("WANDB_API_KEY", "key of Weights & Biases"),
        _secret("NGC_API_KEY", "key of nvcr.io, to import the training image"),
    )
}
# Other programs' variables that a site may have to set; passed on as they are.
FOREIGN = ("NCCL_", "UCX_", "OMP_", "CUDA_", "HF_", "WANDB_", "RAY_", "NRL_", "PIP_", "SBATCH_", "TORCH_")
FOREIGN_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
