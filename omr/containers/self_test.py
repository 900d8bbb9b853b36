"""What an image says of itself, from inside: packages, prompts, NeMo-RL's keys, every script."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from omr import recipe, settings
from omr.containers.checks import DECLINED, OK, Check, missing, ok
from omr.data import prompts
from omr.errors import OmrError
from omr.run.nemo_rl_version import PINNED_VERSION
from omr.training.nemo_rl import contract

NEMO_RL, NEMO_PYTHON = Path(PINNED_VERSION.folder), Path(PINNED_VERSION.python)
WORKERS = Path(PINNED_VERSION.workers)  # the environments that NeMo-RL's own build made for its workers


def built_as() -> dict[str, str]:
    """What the build wrote into OMR_IMAGE: `tools tier=data nemo-skills=none`."""
    words = os.environ.get("OMR_IMAGE", "").split()
    return dict(word.split("=", 1) for word in words if "=" in word)


def checks(stage: str) -> Iterator[Check]:
    """Every check of the stage's image, one after the other."""
    yield ok("code", f"{os.environ.get('OMR_REVISION', 'unknown')}, python {sys.version.split()[0]}")
    yield user()
    built = built_as()
    tier = built.get("tier", "train")
    yield from packages(("cli", "data") if tier == "data" else ("cli", "data", "train"))
    if stage == "tools":
        yield torch(tier)
    yield nemo_skills(built.get("nemo-skills", ""))
    if stage == "train":
        yield from nemo_rl_parts()
    yield from programs()
    yield from scripts(settings.ROOT / "bin")


def user() -> Check:
    """Whoever runs the image has a name and a home to write to."""
    home = Path(os.environ.get("HOME", "/"))
    if not os.access(home, os.W_OK):
        return missing("user", f"HOME={home} is not writable; start the image through docker/entry.sh")
    return ok("user", f"{os.environ.get('USER')} ({os.getuid()}:{os.getgid()}), home {home}")


def packages(tiers: tuple[str, ...]) -> Iterator[Check]:
    """Every package of the locks, in exactly its version."""
    from pip._vendor.packaging.requirements import Requirement

    for tier in tiers:
        lines = (settings.ROOT / "docker" / f"{tier}.lock").read_text().splitlines()
        pinned = [Requirement(line.rstrip(" \\")) for line in lines if re.match(r"[a-z0-9]", line)]
        pinned = [package for package in pinned if package.marker is None or package.marker.evaluate()]
        wrong = [f"{p} is {found}" for p in pinned if not p.specifier.contains(found := version(p.name))]
        if wrong:
            yield missing(f"{tier} lock", "; ".join(wrong))
        else:
            yield ok(f"{tier} lock", f"{len(pinned)} packages as pinned")


def version(name: str) -> str:
    """An installed package's version; `0` when it is not there, which no pin allows."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "0"


def torch(tier: str) -> Check:
    """torch stands outside the hashed locks; docker/pins.env has its version."""
    want, found = settings.pins()["TORCH_VERSION"], version("torch").partition("+")[0]
    if tier == "data" and found == "0":
        return Check("torch", DECLINED, "left out by TOOLS_TIER=data: no training and no eval in this image")
    return ok("torch", version("torch")) if found == want else missing("torch", f"{found}, pinned is {want}")


def nemo_skills(how: str) -> Check:
    """The recipe's prompts come out of nemo-skills, filled with a row, in ChatML."""
    if how == "none":
        return Check("nemo-skills", DECLINED, "left out by NEMO_SKILLS=none: data of the tiny corpus alone")
    if version("nemo-skills") == "0":
        return missing("nemo-skills", "not in this image: the real corpus cannot be formatted with it")
    from omr.tiny.tokenizer import tiny_tokenizer

    corpus = recipe.CORPORA["openmathreasoning"]
    row = {"problem": "What is 1+1?", "total_code_executions": 3}
    for split in corpus.prompts:
        try:
            prompt = prompts.load(corpus, split, tiny_tokenizer())
        except OmrError as error:
            return missing("nemo-skills", str(error))
        text, answer = prompt.fill(row), prompt.format_assistant_response("It is 2.")
        if not isinstance(text, str) or "What is 1+1?" not in text or "It is 2." not in answer:
            return missing(
                "nemo-skills", f"its prompt of {split} does not hold the row that it was filled with"
            )
    return ok("nemo-skills", f"{version('nemo-skills')}, its prompts of every split render")


def nemo_rl_parts() -> Iterator[Check]:
    """What a training job asks of the NeMo-RL image: version, files, interpreters, our list of keys."""
    there = contract.files(NEMO_RL, PINNED_VERSION)
    if there.fault:
        yield missing("NeMo-RL", f"{there.fault}; TRAIN_BASE is no NeMo-RL image")
        return
    yield nemo_rl_version()
    runs = contract.our_runs(NEMO_RL, PINNED_VERSION)
    yield missing("NeMo-RL's keys", runs.fault) if runs.fault else ok("NeMo-RL's keys", runs.holds)
    yield answers("NeMo-RL's python", str(NEMO_PYTHON), "--version")
    uv = answers("uv", "uv", "--version")
    yield uv
    if uv.state == OK:
        # As a link runs it: in NeMo-RL's folder, its environment as it was built.
        run = ("uv", "run", "--no-sync", "--directory", str(NEMO_RL), "python", "-c")
        yield answers("uv run", *run, "import sys; print(sys.prefix)")
    yield answers("ray", str(NEMO_PYTHON.with_name("ray")), "symmetric-run", "--help")
    workers = list(WORKERS.glob("*/bin/python"))
    closed = [str(python) for python in workers if not os.access(python, os.X_OK)]
    if closed or not workers:
        yield missing("workers", f"{WORKERS}: {'not for this user: ' + closed[0] if closed else 'none'}")
    else:
        yield ok("workers", f"{len(workers)} environments in {WORKERS}")


def nemo_rl_version() -> Check:
    """The version that NeMo-RL's own source says, against the pin."""
    found = contract.version_of(NEMO_RL)
    if found == PINNED_VERSION.tag:
        return ok("NeMo-RL", found)
    return missing("NeMo-RL", f"{found}, pinned is {PINNED_VERSION.tag}")


def answers(name: str, *command: str) -> Check:
    """A program that starts for this user, by its first line."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        return missing(name, f"{command[0]} does not start ({error})")
    first = next(iter(done.stdout.strip().splitlines()), "")
    if done.returncode:
        last = next(iter(done.stderr.strip().splitlines()[-1:]), "")
        return missing(name, f"exit {done.returncode}: {last}")
    return ok(name, first)


def programs() -> Iterator[Check]:
    """What the stages call besides Python; shuf and sed have to be GNU's."""
    for name in ("shuf", "sed", "flock", "bwrap"):
        if shutil.which(name) is None:
            yield missing(name, "not installed")
        else:
            yield answers(name, name, "--version")


def scripts(folder: Path) -> Iterator[Check]:
    """Each script of bin/ answers `--help`."""
    silent = []
    # help.py is the page of the Makefile, which stays outside.
    files = sorted(f for f in folder.glob("*.py") if f.name not in ("image_check.py", "help.py"))
    for file in files:
        done = subprocess.run(
            [sys.executable, str(file), "--help"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
        )
        if done.returncode:
            silent.append(f"{file.name} (exit {done.returncode})")
    if silent:
        yield missing("scripts", f"{', '.join(silent)} do not answer --help")
    else:
        yield ok("scripts", f"{len(files)} of bin/ answer --help")
