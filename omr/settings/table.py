"""Every documented setting, a row each: its meaning, its default, and who may have its value."""

from typing import Any

from omr.settings.setting import (
    DECIMAL,
    IMAGE_NAME,
    IMAGE_REFERENCE,
    MEMORY_SIZE,
    MOUNT_LIST,
    PLAIN_NAME,
    PLAIN_NAMES,
    POINT_IN_TIME,
    REPOSITORY,
    RUN_NAME,
    SHARE,
    TIME_LIMIT,
    URL,
    WANDB_PROJECT,
    Setting,
)

STAGES = (  # targets that `make doctor FOR=` judges
    *("data", "data-report", "model", "passport", "plan", "train", "average", "validate", "prune", "eval"),
    *("serve", "ask", "report", "publish", "demo", "pipeline"),
)


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
        _request("VARIANT", "round 2 filters: recommended (default: all splits), paper (CoT)", of_run=True),
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
            "rows: other counts than published; server: another name; unevaluated: publish without eval",
            choices=("rows", "server", "unevaluated"),
        ),
        _switch(
            "QUALITY",
            "data-report: wrong, repeated and contaminated rows; of a sample, with STATS=full of all",
        ),
        _request("DROP", "data: a list of rows, as QUALITY=1 writes them, that are left out", path="input"),
        _request(
            "VALIDATION",
            "data: a share of the problems (0.002), or a .jsonl file of some, that are held out of training",
            path="input",
        ),
        _request("STATS", "rows looked at: full (default), sample (QUALITY's)", choices=("full", "sample")),
        _switch("EVAL", "evaluate at the end of a chain", for_jobs=False),
        _request("MODE", "how a model is asked: cot (the default), tir, genselect, or several with commas"),
        _request("BENCHMARK", "problems: comp-math-24-25 (tiny: its own), or another set of nemo-skills"),
        _request("PROBLEMS", "own problems, JSON lines with problem and expected_answer", path="input"),
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
        _request("REPO", "publish: the repository of the hub, owner/name", form=REPOSITORY),
        _switch("PUBLIC", "publish: open to everybody; else the repository is private"),
        _switch("VERIFY", "hash the data file before training, and all weights before averaging"),
        _switch("FOLLOW", "keep following the logs", for_jobs=False),
        _switch("JSON", "machine-readable answer", for_jobs=False),
        _switch("DRY_RUN", "print exactly what would run, write nothing", for_jobs=False),
        _switch("FORCE", "redo a finished stage", for_jobs=False),
        _switch("RECODE", "train: go on with the code of now, and not with that of the run", for_jobs=False),
        _switch("YES", "really remove what prune lists", for_jobs=False),
        _request(
            "STAGE",
            "image, shell, image-check: of which image: tools, train (default: both)",
            choices=("tools", "train"),
        ),
        _request("FOR", f"doctor: the target to judge: {', '.join(STAGES)}", for_jobs=False, choices=STAGES),
        _switch("ASK", "doctor: send a job of a minute to look at a compute node", for_jobs=False),
        _number("COUNT", "faults: how many", "100", for_jobs=False),
        _number("ROWS", "bench: raw rows of the corpus that is measured", "2000", for_jobs=False),
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
        _secret("NOTIFY", "a command, or https:// webhook, that is told when a run ends"),
        _secret("NGC_API_KEY", "key of nvcr.io, to import the training image"),
    )
}
# Other programs' variables that a site may have to set; passed on as they are.
FOREIGN = ("NCCL_", "UCX_", "OMP_", "CUDA_", "HF_", "WANDB_", "RAY_", "NRL_", "PIP_", "SBATCH_", "TORCH_")
FOREIGN_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
