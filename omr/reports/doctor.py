"""What this machine has, what is missing, and the next step: answered without anything heavy."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

from omr import settings
from omr.containers.checks import OK, Check, absent, missing, ok
from omr.errors import OmrError
from omr.files import human, writable
from omr.processes import cores


def checks(root: Path, runner: str | None) -> list[Check]:
    """Everything that was looked at; what the given RUNNER needs is missing where it is not there, what
    another one needs is only absent. `root` is the workspace."""
    return [
        *_machine(),
        _workspace(root),
        _env_file(),
        *(_gnu(name) for name in ("shuf", "sed", "make")),
        _tool("flock", "install util-linux"),
        _environment(),
        _nemo_skills(),
        _gpu(),
        _tool(
            *("docker", "start the Docker engine", "info", "--format", "{{.ServerVersion}}"),
            needed=runner == "docker",
        ),
        _tool("sinfo", "run on a login node of the cluster", needed=runner == "slurm"),
        *([_pyxis()] if runner == "slurm" else []),
        _sandbox(),
        _is_set("HF_TOKEN", "only private or gated repositories need it"),
        _is_set("WANDB_API_KEY", "training logs to W&B with it alone"),
    ]


def _output(*command: str) -> str | None:
    """What a program prints, or None when it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0]


def _tool(name: str, advice: str, *arguments: str, needed: bool = True) -> Check:
    """A program on PATH that answers to these arguments, by default to --version."""
    not_there = missing if needed else absent
    if shutil.which(name) is None:
        return not_there(name, "not installed", advice)
    text = _output(name, *(arguments or ("--version",)))
    return (
        not_there(name, "installed, does not answer", advice) if text is None else ok(name, _first_line(text))
    )


def _gnu(name: str) -> Check:
    """The mix and the patch are written for GNU's shuf and sed."""
    line = _first_line(_output(name, "--version"))
    if "GNU" in line:
        return ok(name, line)
    return missing(name, line or "not installed", f"install GNU {name}, or set RUNNER=docker")


def _machine() -> list[Check]:
    return [
        ok("python", platform.python_version()),
        ok("cores", str(cores())),
        ok("memory", human(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))),
    ]


def _workspace(root: Path) -> Check:
    """Whether it can be written, and the free space of its disk."""
    try:
        writable(root)
    except OmrError as error:
        return missing("workspace", str(error))
    disk = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(disk).free
    # The tiny recipe takes well under a gigabyte; the real corpus 50 GB of parquet, 114 GB of text
    # and as much scratch while it is mixed.
    advice = "" if free > 300e9 else "the real corpus needs about 300 GB: set WORKSPACE on a larger disk"
    return Check("workspace", OK, f"{root}, {human(free)} free", advice)


def _env_file() -> Check:
    path = settings.env_file()
    if not path.exists():
        return absent(".env", "none", "copy .env.example to .env where a default does not fit")
    secret = {s.name for s in settings.SETTINGS.values() if s.secret}
    if path.stat().st_mode & 0o077 and secret & set(settings.read(path)):
        return missing(".env", "holds secrets that others may read", f"run chmod 600 {path}")
    return ok(".env", str(path))


def _venv() -> Path:
    return Path(os.environ.get("OMR_VENV") or settings.ROOT / ".venv")


def _environment() -> Check:
    """Which tiers docker/venv has made."""
    made = [tier for tier in ("cli", "data", "train", "dev") if (_venv() / f".{tier}").exists()]
    found = f"{_venv()}: {', '.join(made) or 'none yet'}"
    return Check("environment", OK, found, "each stage builds what it needs")


def _nemo_skills() -> Check:
    if list(_venv().glob("lib/python*/site-packages/nemo_skills")):
        return ok("nemo-skills", "installed")
    return absent("nemo-skills", "not installed", "make nemo (the real corpus's prompts; tiny has its own)")


def _gpu() -> Check:
    line = _first_line(_output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"))
    return ok("gpu", line) if line else absent("gpu", "none", "the tiny recipe trains without one")


def _pyxis() -> Check:
    """Whether srun can start containers."""
    if "--container-image" in (_output("srun", "--help") or ""):
        return ok("pyxis", "srun knows --container-image")
    return absent("pyxis", "not there", "leave CONTAINER unset: jobs then use the host's venv")


def _sandbox() -> Check:
    """Whether a model's code can be isolated while it is evaluated."""
    line = _first_line(_output("bwrap", "--version"))
    if line:
        return ok("bubblewrap", line)
    advice = "install the package bubblewrap to evaluate MODE=tir"
    return absent("bubblewrap", "not installed", advice)


def _is_set(name: str, advice: str) -> Check:
    """A variable whose value nobody needs to see."""
    return ok(name, "set") if os.environ.get(name) else absent(name, "not set", advice)
