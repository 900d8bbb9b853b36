"""What a site adds to an image's build: its mirrors, certificates, wheels, and a source of nemo-skills.

It goes into stages of the Dockerfile that only build; no layer of an image has any of it.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from omr import settings
from omr.errors import RequestError

SITE = settings.ROOT / "build" / "site"
# pip's settings that decide where packages come from; the rest of a user's configuration stays here.
PIP_KEYS = (
    *("index-url", "extra-index-url", "trusted-host", "no-index"),
    *("timeout", "default-timeout", "retries"),
)
INSIDE = "/opt/omr/build/site"  # where the Dockerfile puts the folder


def pip_configuration() -> dict[str, str]:
    """pip's own settings on this machine: its files, overridden by its environment."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
    )
    found: dict[str, str] = {}
    own: dict[str, str] = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in ("global", "install", ":env:"):
            (own if section == ":env:" else found)[key.replace("_", "-")] = ast.literal_eval(value)
    return found | own


def is_local(word: str) -> bool:
    """Whether a place that pip looks at is a folder of this machine."""
    return word.startswith(("/", ".", "~", "file:"))


def is_wanted(name: str, locks: str) -> bool:
    """Whether a wheel file is of a version that the locks (or the torch pin) ask for."""
    parts = name.split("-")
    if len(parts) < 3 or not name.endswith((".whl", ".tar.gz")):
        return False
    project, version = re.sub(r"[-_.]+", "-", parts[0]).lower(), parts[1].partition("+")[0]
    pinned = rf"^{re.escape(project)}==({re.escape(parts[1])}|{re.escape(version)})(?![\w.])"
    return bool(re.search(pinned, locks, re.MULTILINE))


def prepare(tiers: tuple[str, ...], folder: Path = SITE) -> str:
    """Fill the folder for a build of these tiers; return where nemo-skills comes from (see `nemo_source`).

    pip.conf: the mirrors that pip knows here; ca.pem: pip's certificates and CA_BUNDLE; wheels/: what local
    find-links folders hold for the tiers' locks; nemo-skills/: NEMO_SKILLS at the pinned commit.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder.chmod(0o700)
    pip = pip_configuration()
    links = pip.get("find-links", "").split()
    lines = {key: _remote(pip.get(key, "").split()) for key in PIP_KEYS}
    lines["find-links"] = _remote(links)
    if copy_wheels([word for word in links if is_local(word)], folder / "wheels", tiers):
        lines["find-links"].insert(0, f"{INSIDE}/wheels")
    if certificates := certificate_text(pip.get("cert")):
        (folder / "ca.pem").write_text(certificates)
        lines["cert"] = [f"{INSIDE}/ca.pem"]
    text = "".join(f"{key} = {' '.join(words)}\n" for key, words in lines.items() if words)
    (folder / "pip.conf").write_text(f"[global]\n{text}")
    return nemo_source(folder / "nemo-skills")


def _remote(words: list[str]) -> list[str]:
    return [word for word in words if not is_local(word)]


def copy_wheels(sources: list[str], target: Path, tiers: tuple[str, ...]) -> int:
    """Put the wheels that our locks want into the build's context (by a hard link where that works)."""
    locks = "".join((settings.ROOT / "docker" / f"{tier}.lock").read_text() for tier in tiers)
    if "train" in tiers:
        locks += f"\ntorch=={settings.pins()['TORCH_VERSION']}\n"
    folders = [Path(word.removeprefix("file://")).expanduser() for word in sources]
    files = [file for folder in folders if folder.is_dir() for file in sorted(folder.iterdir())]
    wanted = [file for file in files if is_wanted(file.name, locks)]
    for file in wanted:
        target.mkdir(exist_ok=True)
        try:
            os.link(file.resolve(), target / file.name)
        except OSError:
            shutil.copyfile(file, target / file.name)
    return len(wanted)


def certificate_text(pip_cert: str | None) -> str:
    """What a build trusts: pip's own certificates here and CA_BUNDLE; empty where both are unset."""
    extra = settings.get("CA_BUNDLE")
    if not extra and not pip_cert:
        return ""
    if pip_cert is None:
        from pip._vendor import certifi

        pip_cert = certifi.where()
    texts = []
    for file in dict.fromkeys(filter(None, (pip_cert, extra))):
        path = Path(file).expanduser()
        text = path.read_text(errors="replace") if path.is_file() else ""
        if "BEGIN CERTIFICATE" not in text:
            raise RequestError(f"{path}: is no PEM file of certificates; correct CA_BUNDLE (or pip's cert)")
        texts.append(text)
    return "\n".join(texts)


def nemo_source(target: Path) -> str:
    """Where a build takes nemo-skills from: `site` (a copy here), `git`, `none` (as asked) or `unreachable`.

    It is found out before the build, because a step that fails softly inside one would be cached.
    """
    given = os.environ.get("NEMO_SKILLS")
    if given == "none":
        return "none"
    if given:
        target.mkdir()
        done = subprocess.run([settings.ROOT / "docker" / "nemo_source", Path(given).expanduser(), target])
        if done.returncode:
            raise RequestError("nemo-skills: see above; or NEMO_SKILLS=none builds without it")
        return "site"
    if shutil.which("git") is None:
        return "git"
    look = ["git", "ls-remote", "--exit-code", settings.pins()["NEMO_SKILLS_URL"], "HEAD"]
    environ = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(look, env=environ, capture_output=True, timeout=30)
    except subprocess.TimeoutExpired:
        return "unreachable"
    return "git" if done.returncode == 0 else "unreachable"
