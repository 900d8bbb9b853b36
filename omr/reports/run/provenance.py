"""Where everything of a run came from, as names and values, and the commands that make it again."""

from collections.abc import Iterator, Mapping

from omr import manifest
from omr.evaluation.results import EvalResult
from omr.files import Json
from omr.reports import commands
from omr.reports.pages import Section
from omr.run.frozen import FrozenRun
from omr.workspace import RunFolder


def section(folder: RunFolder, began: FrozenRun, origin: Json) -> Section:
    """Everything that decided the result; `origin` is the data's manifest."""
    return Section("Provenance", rows=list(_lines(folder, began, origin)))


def repeated(began: FrozenRun, origin: Json, found: Mapping[str, EvalResult]) -> Section:
    """What to type to have this run again."""
    note = (
        ""
        if len(began.code) == 40
        else f"The code was {began.code or 'not recorded'}: no commit that can be checked out."
    )
    text = "From an empty workspace; where it runs (RUNNER, ACCOUNT, …) is for .env."
    return Section(
        "Commands that repeat it", text, commands=list(commands.repeat(began, origin, found)), after=note
    )


def _lines(folder: RunFolder, began: FrozenRun, data: Json) -> Iterator[tuple[str, str]]:
    request = began.request_json()
    final = manifest.read(folder.final) or {}
    weights = {
        name: entry["sha256"]
        for name, entry in final.get("files", {}).items()
        if name.endswith(".safetensors")
    }
    yield "run folder", str(folder.root)
    yield "engine", began.engine
    yield "code", began.code
    yield "command", began.command
    yield from _flat("data", {**request["data"], **data.get("inputs", {})})
    yield from _flat("base", request["base"])
    yield from _flat("final", {**final.get("inputs", {}), "weights": weights})
    yield from _flat("versions", final.get("versions", {}))


def _flat(name: str, value: object) -> Iterator[tuple[str, str]]:
    """`name key key` -> text of everything in nested mappings, without what is empty."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _flat(f"{name} {key}", part)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for number, part in enumerate(value, 1):
            yield from _flat(f"{name} {number}", part)
    elif value not in (None, "", []):
        yield name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)
