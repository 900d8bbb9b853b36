"""Where an output came from, and whether it is still what its inputs would give."""

import hashlib
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypedDict

from omr.errors import RequestError
from omr.files import Json, read_json, sha256, write_json
from omr.settings import ROOT, SETTINGS
from omr.workspace import manifest_of

# A fingerprint's blocks are sampled evenly: 4 MiB of any file, the first and the last block included.
BLOCKS, BLOCK = 64, 64 * 1024


class FileEntry(TypedDict):
    """What a manifest says of one file."""

    size: int  # bytes
    sha256: str


def entries(
    folder: Path, known: dict[str, FileEntry] | None = None, patterns: tuple[str, ...] = ("*",)
) -> dict[str, FileEntry]:
    """The entry of each of the folder's files that match, by name; `known` ones are not read again."""
    names = sorted(
        path.name
        for path in folder.iterdir()
        if path.is_file()
        and path.name != "manifest.json"
        and any(fnmatchcase(path.name, p) for p in patterns)
    )
    return {
        name: (known or {}).get(name)
        or {"size": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
        for name in names
    }


@dataclass(frozen=True)
class Fingerprint:
    """What tells a file from another one of its name without reading all of it."""

    size: int  # bytes
    mtime_ns: int
    blocks: str  # sha256 of evenly sampled blocks

    def as_json(self) -> dict[str, int | str]:
        """Its form on disk."""
        return {"size": self.size, "mtime": self.mtime_ns, "blocks": self.blocks}

    @classmethod
    def from_json(cls, value: dict[str, int | str]) -> "Fingerprint":
        """The fingerprint that `as_json` wrote."""
        return cls(value["size"], value["mtime"], value["blocks"])


def fingerprint(path: Path) -> Fingerprint:
    """The fingerprint of a file as it is now; reads 4 MiB."""
    info = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        for i in range(BLOCKS):
            handle.seek(max(0, info.st_size - BLOCK) * i // (BLOCKS - 1))
            digest.update(handle.read(BLOCK))
    return Fingerprint(info.st_size, info.st_mtime_ns, digest.hexdigest())


def fingerprints(folder: Path, pattern: str = "*.safetensors") -> dict[str, dict[str, int | str]]:
    """The fingerprint of each large file of a folder, for a manifest's `seen`."""
    return {path.name: fingerprint(path).as_json() for path in sorted(folder.glob(pattern))}


def untouched(path: Path) -> Fingerprint | None:
    """The fingerprint of a finished file; None if it was written to after its manifest was.

    In that case only the whole hash tells whether it is the file that the manifest is about.
    """
    if path.stat().st_mtime_ns > manifest_of(path).stat().st_mtime_ns:
        return None
    return fingerprint(path)


def changed(folder: Path) -> Path | None:
    """The first file of a finished model folder that is not the one that its manifest lists; None if all are.

    Weights by their size and sampled blocks (of an earlier state of this toolkit: by their size), all else by
    its hash. The card may be written on.
    """
    origin = read(folder) or {"files": {}}
    for name, facts in origin["files"].items():
        file, seen = folder / name, origin.get("seen", {}).get(name)
        if name == "README.md":
            continue
        same = file.exists() and file.stat().st_size == facts["size"]
        if same and file.suffix != ".safetensors":
            same = sha256(file) == facts["sha256"]
        elif same and seen:
            same = fingerprint(file).blocks == seen["blocks"]
        if not same:
            return file
    return None


def versions(*packages: str) -> dict[str, str]:
    """Installed version of each package, and of Python."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def code_revision() -> str:
    """The repository's commit, `+dirty` when files differ from it; the image carries it as OMR_REVISION.

    Of an unpacked archive, which has no repository, the version: `0.1.0 (no git)`.
    """
    if revision := os.environ.get("OMR_REVISION"):
        return revision

    def git(*words: str) -> str:
        command = ["git", "-C", str(ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if not (ROOT / ".git").exists():  # git would look in the folders above
            raise FileNotFoundError
        return git("rev-parse", "HEAD") + ("+dirty" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        return f"{project['version']} (no git)"


def command() -> str:
    """The words that this process was asked with, as make would take them: `ROUND=2 data.py --force`."""
    asked = [s.name for s in SETTINGS.values() if not s.machine and os.environ.get(s.name)]
    words = [f"{name}={os.environ[name]}" for name in asked]
    return shlex.join([*words, Path(sys.argv[0]).name, *sys.argv[1:]])


def write(path: Path, inputs: Json, **facts: Any) -> None:
    """Write the manifest of `path`, last: its existence means that `path` is finished.

    `inputs` is what decides the content (compared by `changes`); `facts` is what came out.
    """
    origin = {"inputs": inputs, **facts, "code": code_revision(), "command": command()}
    write_json(manifest_of(path), origin)


def read(path: Path) -> Json | None:
    """The manifest of `path`, or None when it is not finished."""
    file = manifest_of(path)
    return read_json(file) if path.exists() and file.exists() else None


def changes(old: Json, new: Json) -> list[str]:
    """Which inputs differ: `seed was 0, is 1`, `data.rows was 10, is 20`."""
    found = []
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += [f"{key}.{line}" for line in changes(before, after)]
        elif before != after:
            found.append(f"{key} was {before}, is {after}")
    return found


def finished(
    path: Path, inputs: Json, force: bool = False, otherwise: str = ", NAME=… beside it"
) -> Json | None:
    """The manifest if `path` is finished with these inputs; None if there is work to do.

    Finished with other inputs is a RequestError that says which, because redoing it throws work away;
    `otherwise` is what else may be done.
    """
    made = None if force else read(path)
    if made is None:
        return None
    if different := changes(made["inputs"], inputs):
        raise RequestError(
            f"{path} was made from other inputs: {'; '.join(different)}; FORCE=1 makes it anew{otherwise}"
        )
    return made
