"""What this machine has, what is missing, and the next step: answered without anything heavy."""

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from omr import settings
from omr.errors import OmrError
from omr.files import human, writable

OK, MISSING, ABSENT = "ok", "missing", "absent"


@dataclass(frozen=True)
class Check:
    """One fact: `missing` stops a stage that needs it, `absent` only closes a way that nobody asked for."""

    name: str
    state: str
    found: str
    advice: str = ""


def _output(*command: str) -> str | None:
    """First line that a program prints, or None when it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip().split("\n")[0] if done.returncode == 0 else None


def _tool(name: str, advice: str, *version: str, needed: bool = True) -> Check:
    """A program on PATH; `version` is the command line that proves it works."""
    if shutil.which(name) is None:
        return Check(name, MISSING if needed else ABSENT, "not installed", advice)
    line = _output(name, *(version or ("--version",)))
    if line is None:
        return Check(name, MISSING if needed else ABSENT, "installed, does not answer", advice)
    return Check(name, OK, line)


def _gnu(name: str) -> Check:
    """The mix and the patch are written for GNU's shuf and sed."""
    line = _output(name, "--version") or ""
    if "GNU" in line:
        return Check(name, OK, line)
    return Check(name, MISSING, line or "not installed", f"install GNU {name}, or set RUNNER=docker")


def _machine(root: Path) -> list[Check]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = [
        Check("python", OK, platform.python_version()),
        Check("cores", OK, str(len(os.sched_getaffinity(0)))),
        Check("memory", OK, human(memory)),
    ]
    try:
        writable(root)
        parent = root
        while not parent.exists():
            parent = parent.parent
        free = shutil.disk_usage(parent).free
        # The tiny recipe takes well under a gigabyte; the real corpus 50 GB of parquet, 114 GB of text
        # and as much scratch while it is mixed.
        advice = "" if free > 300e9 else "the real corpus needs about 300 GB: set WORKSPACE on a larger disk"
        found.append(Check("workspace", OK, f"{root}, {human(free)} free", advice))
    except OmrError as error:
        found.append(Check("workspace", MISSING, str(error)))
    return found


def _env_file() -> Check:
    path = settings.env_file()
    if not path.exists():
        return Check(".env", ABSENT, "none", "copy .env.example to .env where a default does not fit")
    secret = {s.name for s in settings.SETTINGS.values() if s.secret}
    if path.stat().st_mode & 0o077 and secret & set(settings.read(path)):
        return Check(".env", MISSING, "holds secrets that others may read", f"run chmod 600 {path}")
    return Check(".env", OK, str(path))


def _environments() -> list[Check]:
    venv = Path(os.environ.get("OMR_VENV") or settings.ROOT / ".venv")
    built = [tier for tier in ("cli", "data", "train", "dev") if (venv / f".{tier}").exists()]
    skills = list(venv.glob("lib/python*/site-packages/nemo_skills"))
    return [
        Check(
            "environment", OK, f"{venv}: {', '.join(built) or 'none yet'}", "each stage builds what it needs"
        ),
        Check("nemo-skills", OK, "installed")
        if skills
        else Check(
            "nemo-skills", ABSENT, "not installed", "make nemo (the real corpus's prompts; tiny has its own)"
        ),
    ]


def _pyxis() -> Check:
    """Whether srun can start containers."""
    try:
        text = subprocess.run(["srun", "--help"], capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        text = ""
    if "--container-image" in text:
        return Check("pyxis", OK, "srun knows --container-image")
    return Check("pyxis", ABSENT, "not there", "leave CONTAINER unset: jobs then use the host's venv")


def _is_set(name: str, advice: str) -> Check:
    """A variable whose value nobody needs to see."""
    return Check(name, OK, "set") if os.environ.get(name) else Check(name, ABSENT, "not set", advice)


def checks(root: Path, runner: str | None) -> list[Check]:
    """Every check, those of the RUNNER that was asked for as needed, the others as ways not open."""
    gpu = _output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
    engine = ("docker", "start the Docker engine", "info", "--format", "{{.ServerVersion}}")
    return [
        *_machine(root),
        _env_file(),
        *(_gnu(name) for name in ("shuf", "sed", "make")),
        _tool("flock", "install util-linux"),
        *_environments(),
        Check("gpu", OK, gpu) if gpu else Check("gpu", ABSENT, "none", "the tiny recipe trains without one"),
        _tool(*engine, needed=runner == "docker"),
        _tool("sinfo", "run on a login node of the cluster", needed=runner == "slurm"),
        *([_pyxis()] if runner == "slurm" else []),
        _is_set("HF_TOKEN", "only private or gated repositories need it"),
        _is_set("WANDB_API_KEY", "training logs to W&B with it alone"),
    ]
