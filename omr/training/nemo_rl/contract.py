"""What this toolkit relies on in a NeMo-RL, held against its source: of a checkout, or in an image.

Each check reads files and runs nothing; `make test-nemo` trains.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from omr import recipe
from omr.errors import RequestError, listing
from omr.run.nemo_rl_version import VERSIONS, NemoRlVersion
from omr.run.validation import ValidationFile
from omr.training.nemo_rl import config, keys
from omr.workspace import Workspace

HELD_OUT = ValidationFile("cot", Path("/nowhere/cot.jsonl"), sha256="", size=0, rows=0)
CONVERTER_OPTIONS = ("--config", "--megatron-ckpt-path", "--hf-ckpt-path")


@dataclass(frozen=True)
class Clause:
    """One thing that is relied on, and what is otherwise; None where it holds."""

    name: str
    holds: str  # what was looked at, where it does
    fault: str | None


def version_of(source: Path) -> str:
    """The tag that a NeMo-RL's own source says: `v0.6.0`; a RequestError where it is none."""
    about = source / "nemo_rl" / "package_info.py"
    if not about.is_file():
        raise RequestError(f"{source}: is no NeMo-RL (no nemo_rl/package_info.py); name a checkout of it")
    return "v" + ".".join(re.findall(r"^(?:MAJOR|MINOR|PATCH) = (\d+)", about.read_text(), re.MULTILINE))


def row_of(source: Path) -> NemoRlVersion:
    """The row of a source's version; a RequestError where there is none."""
    tag = version_of(source)
    if tag not in VERSIONS:
        raise RequestError(
            f"{source}: is NeMo-RL {tag}, which has no row in omr/run/nemo_rl_version.py; take"
            f" {listing(VERSIONS)}, or add a row and hold it against this checkout"
        )
    return VERSIONS[tag]


def clauses(source: Path, row: NemoRlVersion) -> Iterator[Clause]:
    """Every check of a version's row against a source of it."""
    yield (there := files(source, row))
    if not there.fault:
        yield from (check(source, row) for check in (_keys, our_runs, _hooks, _converter))


def files(source: Path, row: NemoRlVersion) -> Clause:
    """What a job of the chain runs in NeMo-RL's folder is there."""
    absent = [name for name in (row.example, row.script, row.converter) if not (source / name).is_file()]
    fault = f"{source} has no {listing(absent, 'and')}" if absent else None
    return Clause("files", "example, script and converter", fault)


def _example(source: Path, row: NemoRlVersion) -> keys.Values:
    import yaml

    return yaml.safe_load((source / row.example).read_text())


def _keys(source: Path, row: NemoRlVersion) -> Clause:
    """The list of keys is the example's."""
    have = {key + (".*" if value == {} else "") for key, value in keys.flatten(_example(source, row))}
    listed = {key for key in keys.known_keys(row) if not key.endswith("?")}
    odd = sorted(have ^ listed)
    fault = f"{listing(odd[:3], 'and')} differ between {row.example} and {row.keys}" if odd else None
    return Clause("keys", f"{len(have)} of {row.example}", fault)


def our_runs(source: Path, row: NemoRlVersion) -> Clause:
    """Every key that a run of ours sets is a key of the example, or of the code."""
    example, workspace, nowhere = _example(source, row), Workspace(Path("/nowhere")), Path("/nowhere")
    runs = [
        recipe.run(model.name, round_.number, round_.variant)
        for model in recipe.MODELS.values()
        if model.engine == "nemo-rl"
        for round_ in recipe.ROUNDS.values()
        if round_.number in model.rounds
    ]
    for run in runs:
        inputs = config.Inputs(run, workspace.run(run), nowhere, nowhere, held_out=(HELD_OUT,))
        values = config.values(inputs)
        if unknown := keys.unknown_here(values, example):
            return Clause("runs", "", f"{listing(unknown, 'and')}: not in {row.example}, set for {run.title}")
    return Clause("runs", f"all keys that our {len(runs)} runs set", None)


def _hooks(source: Path, row: NemoRlVersion) -> Clause:
    """The names that our driver replaces are there to be replaced."""
    path = source / "nemo_rl" / "algorithms" / "sft.py"
    tree = ast.parse(path.read_text()) if path.is_file() else ast.Module([], [])
    names, parameters = set(), {}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {name.asname or name.name for name in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
            if isinstance(node, ast.FunctionDef):
                parameters[node.name] = tuple(each.arg for each in node.args.args)
    absent = [name for name in row.hooks if name not in names]
    fault = f"{path.relative_to(source)} has no {listing(absent, 'or')}" if absent else None
    for name, *wanted in row.taken:
        if not fault and parameters.get(name, ())[: len(wanted)] != tuple(wanted):
            fault = f"{name} in {path.relative_to(source)} does not begin with {listing(wanted, 'and')}"
    return Clause("driver", listing(row.hooks, "and"), fault)


def _converter(source: Path, row: NemoRlVersion) -> Clause:
    """The converter takes the options that we give it."""
    text = (source / row.converter).read_text()
    unknown = [option for option in CONVERTER_OPTIONS if f'"{option}"' not in text]
    fault = f"{row.converter} has no {listing(unknown, 'or')}" if unknown else None
    return Clause("converter", listing(CONVERTER_OPTIONS, "and"), fault)
