"""The settings of a command and of this machine: command line, then environment, then .env, then default.

`python -m omr.settings exec COMMAND…` becomes COMMAND with .env in its environment, for docker/entry.sh.
"""

import io
import os
import socket
import sys
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omr.errors import OmrError, RequestError, nearest

ROOT = Path(__file__).resolve().parents[1]
NEMO_RL_FOLDER = "/opt/nemo-rl"  # where the pinned image keeps NeMo-RL
IMAGE_ENV = Path("/opt/omr/image.env")  # written by the Dockerfile; the code may stand elsewhere, mounted


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
# A switch, on and off: click's own words (click.types.BoolParamType).
ON = ("1", "true", "t", "yes", "y", "on")
OFF = ("", "0", "false", "f", "no", "n", "off")
# Other programs' variables that a site may have to set; passed on as they are.
FOREIGN = ("NCCL_", "UCX_", "OMP_", "CUDA_", "HF_", "WANDB_", "RAY_", "NRL_", "PIP_", "SBATCH_", "TORCH_")
FOREIGN_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


def env_file(environ: MutableMapping[str, str] = os.environ) -> Path:
    """The file of machine facts: .env of the repository, or what OMR_ENV_FILE names."""
    return Path(environ.get("OMR_ENV_FILE") or ROOT / ".env")


def read(path: Path) -> dict[str, str]:
    """Parse a .env file with python-dotenv's grammar, nothing interpolated.

    Its parser rather than its `dotenv_values`, which passes over what is wrong and knows no line numbers:
    a line that does not parse, a key without a value, a key set twice or unknown: a RequestError
    that names file and line.
    """
    from dotenv.parser import parse_stream

    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror}; make it readable or remove it") from None
    for binding in parse_stream(io.StringIO(text)):
        # The parser counts blank lines before a binding as part of it.
        string = binding.original.string
        line = binding.original.line + string[: len(string) - len(string.lstrip())].count("\n")
        where = f"{path}:{line}"
        if binding.error or (binding.key is not None and binding.value is None):
            raise RequestError(f"{where}: is not NAME=value; quote a value with spaces or #, comment with #")
        if binding.key is None:
            continue
        known = binding.key in SETTINGS or binding.key in FOREIGN_NAMES or binding.key.startswith(FOREIGN)
        if not known:
            raise RequestError(
                f"{where}: {binding.key} is no setting{nearest(binding.key, SETTINGS)};"
                " .env.example has them all"
            )
        if binding.key in values:
            first = lines[binding.key]
            raise RequestError(f"{where}: {binding.key} is set already in line {first}; keep one")
        if "\0" in binding.value:
            raise RequestError(f"{where}: the value of {binding.key} has a NUL byte; remove it")
        values[binding.key], lines[binding.key] = binding.value, line
    return values


def load(environ: MutableMapping[str, str] = os.environ) -> None:
    """Put what .env says into the environment where the caller has not said otherwise.

    In a container a value that is merely the image's own ENV does not count as set: .env wins over it.
    """
    if "WSL_DISTRO_NAME" in environ and environ.get("NAME") == socket.gethostname():
        del environ["NAME"]  # WSL sets it to the host's name; it names no run
    path = env_file(environ)
    if path.exists():
        own = image_environment()
        for name, value in read(path).items():
            if name not in environ or environ[name] == own.get(name):
                environ[name] = value


def image_environment() -> dict[str, str]:
    """The ENV of the image that this code runs in, as its build wrote it down; empty on a host."""
    lines = IMAGE_ENV.read_text().splitlines() if IMAGE_ENV.exists() else []
    return dict(line.split("=", 1) for line in lines if "=" in line)


def get(name: str) -> str | None:
    """A setting's value after `load`: what is set, else its default; empty counts as unset."""
    return os.environ.get(name) or SETTINGS[name].default


def on(name: str) -> bool:
    """Whether a switch such as VERIFY is on, by the words that click takes for one; unset is off.

    Any other word is a RequestError.
    """
    word = (get(name) or "0").strip().lower()
    if word in ON:
        return True
    if word not in OFF:
        raise RequestError(f"{name}={get(name)} is neither on nor off; set {name}=1 or {name}=0")
    return False


def spellings(name: str) -> list[str]:
    """The options of a script that set a documented setting: `--dry_run` and `--dry-run`."""
    word = name.lower()
    return list(dict.fromkeys([f"--{word}", f"--{word.replace('_', '-')}"]))


def nemo_rl_folder() -> str:
    """The folder that NeMo-RL is run from: NEMO_RL, else the one in the training image."""
    return get("NEMO_RL") or NEMO_RL_FOLDER


def number(name: str) -> int | None:
    """The value of a number such as NODES, None where it is unset; a RequestError for what is none."""
    value = get(name)
    return None if value is None else SETTINGS[name].number(value)


def paths(role: str) -> list[str]:
    """Names of the settings that hold a path of this role: input or output."""
    return [s.name for s in SETTINGS.values() if s.path == role]


def secrets() -> list[str]:
    """Names of the secrets that are set; values travel by name alone."""
    return [s.name for s in SETTINGS.values() if s.secret and os.environ.get(s.name)]


def is_secret(name: str) -> bool:
    """Whether a variable's value stays out of argv, scripts and logs; foreign ones are known by name."""
    setting = SETTINGS.get(name)
    if setting is not None:
        return setting.secret
    return any(word in name.upper() for word in ("TOKEN", "KEY", "SECRET", "PASSWORD"))


def pins() -> dict[str, str]:
    """docker/pins.env: versions and revisions that are not recipe numbers."""
    lines = (ROOT / "docker" / "pins.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def _become(command: list[str]) -> None:
    """Go on as `command`, with .env in its environment."""
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise RequestError(f"{command[0]}: {error.strerror}; name a program that is in the image") from None


def _main() -> int:
    try:
        load()
        if sys.argv[1:2] == ["exec"]:
            _become(sys.argv[2:])
    except OmrError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(_main())
