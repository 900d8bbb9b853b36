"""The installed nemo-skills: where it lies, its data sets, how to get it. It is not imported here."""

import importlib.util
from pathlib import Path

from omr import settings
from omr.errors import RequestError, nearest


def folder() -> Path:
    """The folder of the package; a RequestError says how to get it."""
    found = importlib.util.find_spec("nemo_skills")
    if found is None or not found.submodule_search_locations:
        raise RequestError(missing())
    return Path(found.submodule_search_locations[0])


def installed() -> bool:
    """Whether it is there."""
    return importlib.util.find_spec("nemo_skills") is not None


def data_set(name: str) -> Path:
    """The folder of a data set; a RequestError names the nearest for one that is none."""
    sets = folder() / "dataset"
    if not (sets / name / "__init__.py").exists():
        known = [path.parent.name for path in sets.glob("*/__init__.py")]
        raise RequestError(
            f"BENCHMARK={name} is no data set of nemo-skills{nearest(name, known)}; choose one of its own, or"
            " set PROBLEMS to a JSON-lines file"
        )
    return sets / name


def missing(error: ImportError | None = None) -> str:
    """How to get nemo-skills."""
    commit = settings.pins()["NEMO_SKILLS_COMMIT"]
    why = f" ({error})" if error and error.name != "nemo_skills" else ""
    return (
        f"nemo-skills is not installed{why}; run make nemo (its pinned commit {commit[:8]};"
        " NEMO_SKILLS=folder takes a local source), or use RUNNER=docker, whose image has it"
    )
