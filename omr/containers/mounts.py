"""Which paths of this machine a container has to see: each at its own place, inputs read-only.

The same list serves docker and Slurm's containers, so that a path written into a manifest means the same file
on every runner.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from omr import recipe, settings
from omr.errors import RequestError

INPUTS, OUTPUTS = settings.paths("input"), settings.paths("output")


@dataclass(frozen=True)
class Mount:
    """`source` on this machine appears as `target` in the container."""

    source: str
    target: str
    writable: bool = False


def paths(environ: Mapping[str, str]) -> dict[str, str]:
    """The settings that name a path, made absolute: a container has another working folder and another home.

    `environ` is the environment after `settings.load`. HF_HOME falls back to the hub client's own default,
    so that a login and a cache of this machine serve in the container too.
    """
    given = {name: environ.get(name) for name in (*OUTPUTS, *INPUTS)}
    given["WORKSPACE"] = given["WORKSPACE"] or settings.SETTINGS["WORKSPACE"].default
    given["HF_HOME"] = given["HF_HOME"] or f"{environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    for name, suffix in (("RECIPE", ".toml"), ("VALIDATION", ".jsonl")):
        if not (given[name] or "").endswith(suffix):
            del given[name]  # the name of a shipped recipe, a share of the problems
    return {name: str(Path(path).expanduser().absolute()) for name, path in given.items() if path}


def mounts(environ: Mapping[str, str], env_file: Path | None = None) -> list[Mount]:
    """What to mount for these settings; a RequestError names a path that is not there."""
    found: dict[str, Mount] = {}
    named = paths(environ)
    for name in OUTPUTS:
        _add(found, Mount(named[name], named[name], writable=True))
    for name in INPUTS:
        if name in named:
            if not Path(named[name]).exists():
                raise RequestError(f"{name}={named[name]} is not there; correct it or unset it")
            _add(found, Mount(named[name], named[name]))
            for link in links_out(Path(named[name])):
                _add(found, link)
    if "RECIPE" in named:
        for path in recipe.paths_of(named["RECIPE"]):
            _add(found, Mount(str(path), str(path)))
    if env_file:
        _add(found, Mount(str(env_file.absolute()), str(env_file.absolute())))
    for extra in extras(environ.get("MOUNTS")):
        _add(found, extra)
    return list(found.values())


def for_pyxis(environ: Mapping[str, str]) -> str:
    """The mounts of a Slurm job's container, as pyxis takes them: this toolkit, and `mounts` with .env."""
    found = [Mount(str(settings.ROOT), str(settings.ROOT)), *mounts(environ, settings.env_file())]
    for mount in found:
        if set(mount.source + mount.target) & set(",:"):
            raise RequestError(
                f"{mount.source}: pyxis cannot mount a path with a comma or a colon; rename it"
            )
    named = {m.target: f"{m.source}:{m.target}{'' if m.writable else ':ro'}" for m in found}
    return ",".join(named.values())


def _add(found: dict[str, Mount], mount: Mount) -> None:
    """A target is mounted once; asked for twice, writable wins."""
    if mount.target not in found or mount.writable:
        found[mount.target] = mount


def extras(text: str | None) -> Iterator[Mount]:
    """MOUNTS: `/from:/to`, `/from:/to:ro` or `/same`, separated by commas."""
    for word in filter(None, (w.strip() for w in (text or "").split(","))):
        source, target, *mode = (word if ":" in word else f"{word}:{word}").split(":")
        if not source.startswith("/") or not target.startswith("/") or mode not in ([], ["ro"], ["rw"]):
            raise RequestError(f"MOUNTS: {word} is not /from:/to or /from:/to:ro; separate several by commas")
        if not Path(source).exists():
            raise RequestError(f"MOUNTS: {source} is not there; correct it or leave it out")
        yield Mount(source, target, writable=mode != ["ro"])


def links_out(folder: Path) -> Iterator[Mount]:
    """Where links below `folder` lead out of it: a snapshot in the hub's cache links to ../../blobs.

    A link is followed as the container's kernel would follow it, from the folder's name as it was given.
    """
    seen = set()
    for parent, folders, files in os.walk(folder):
        for name in folders + files:
            link = Path(parent, name)
            if not link.is_symlink() or not link.exists():
                continue
            target = Path(os.path.normpath(Path(parent, link.readlink())))
            if target.is_relative_to(folder):
                continue
            real = link.resolve()
            # One mount for a folder of blobs; a file of another name is a chain of links, mounted by itself.
            whole = real.name == target.name and real.is_file()
            mount = Mount(str(real.parent), str(target.parent)) if whole else Mount(str(real), str(target))
            if mount not in seen:
                seen.add(mount)
                yield mount


def visible(path: str, mounted: list[Mount]) -> bool:
    """Whether a path of this machine is the same path in the container."""
    return any(m.source == m.target and Path(path).is_relative_to(m.target) for m in mounted)
