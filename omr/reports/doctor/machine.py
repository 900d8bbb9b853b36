"""What this machine has: its cores and memory, the programs that the stages call, GPUs, the sandbox."""

import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

from omr.containers.checks import Check, absent, fix, of_error, ok, warn
from omr.errors import OmrError
from omr.files import human
from omr.processes import cores


def look(
    name: str, at: Callable[..., Check | list[Check]], *arguments: Any, otherwise: str = ""
) -> list[Check]:
    """The rows that `at` gives; one row called `name` for what it refuses, or could not look at here.

    `otherwise` is the advice for a refusal that has none.
    """
    try:
        found = at(*arguments)
    except ModuleNotFoundError as error:
        said = f"not looked at: {error.name} is not installed here"
        return [warn(name, said, "run docker/venv data, and this again")]
    except OmrError as error:
        return [of_error(name, error, otherwise)]
    return found if isinstance(found, list) else [found]


def output(*command: str) -> str | None:
    """What a program prints, or None when it is not there or fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=20, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def first_line(text: str | None) -> str:
    """The first line of what a program printed; empty where it printed nothing."""
    return (text or "").partition("\n")[0]


def size() -> list[Check]:
    """Python, cores and memory: facts."""
    return [
        ok("python", platform.python_version()),
        ok("cores", str(cores())),
        ok("memory", human(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))),
    ]


def tool(name: str, advice: str, *arguments: str, needed: bool = True) -> Check:
    """A program on PATH that answers to these arguments, by default to --version."""
    not_there = fix if needed else absent
    if shutil.which(name) is None:
        return not_there(name, "not installed", advice)
    text = output(name, *(arguments or ("--version",)))
    return (
        not_there(name, "installed, does not answer", advice) if text is None else ok(name, first_line(text))
    )


def gnu(name: str) -> Check:
    """The mix and the patch are written for GNU's shuf and sed."""
    line = first_line(output(name, "--version"))
    if "GNU" in line:
        return ok(name, line)
    return fix(name, line or "not installed", f"install GNU {name}, or set RUNNER=docker")


def gpu(needed: bool = False) -> Check:
    """The GPUs that NVIDIA's driver shows."""
    names = (
        output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader") or ""
    ).splitlines()
    if names:
        return ok("gpu", names[0] if len(names) == 1 else f"{len(names)} × {names[0]}")
    if needed:
        return fix("gpu", "none", "set RUNNER=slurm, or run this on a machine with GPUs")
    return absent("gpu", "none", "the tiny recipe trains without one")


def sandbox(needed: bool = False) -> Check:
    """Whether a model's code can be isolated while it is evaluated."""
    line = first_line(output("bwrap", "--version"))
    if line:
        return ok("bubblewrap", line)
    if needed:
        return fix("bubblewrap", "not installed", "apt install bubblewrap, or set MODE=cot")
    return absent("bubblewrap", "not installed", "install the package bubblewrap to evaluate MODE=tir")


def secret(name: str, advice: str) -> Check:
    """A variable whose value nobody needs to see."""
    return ok(name, "set") if os.environ.get(name) else absent(name, "not set", advice)
