"""Who may import whom: downward only, so that a reader goes down once; and no room is too large to read."""

import ast
import sys

import pytest

from omr.settings import ROOT

# From the bottom up; a wing may import itself, the wings of the rows below its own, and the core.
FLOORS = (
    ("core",),
    ("run", "tiny"),
    ("data", "models"),
    ("training",),
    ("containers",),
    ("cluster", "evaluation"),
    ("reports",),
)
HEIGHT = {wing: height for height, wings in enumerate(FLOORS) for wing in wings}
HEAVY = {
    "torch",
    "transformers",
    "datasets",
    "trl",
    "pyarrow",
    "numpy",
    "ml_dtypes",
    "matplotlib",
    "huggingface_hub",
}
# Modules that may import HEAVY ones at their top, because others import them only inside a function.
HEAVY_ROOMS = {"omr.training.trl.trainer"}
ROOMS = sorted((ROOT / "omr").rglob("*.py"))


def wing(module):
    """`omr.data.rows` -> data; a module of omr/ itself is of the core, and so are recipe and settings."""
    parts = module.split(".")
    outside = len(parts) > 1 and (ROOT / "omr" / parts[1]).is_dir() and parts[1] not in ("recipe", "settings")
    return parts[1] if outside else "core"


def imports(text):
    """Modules of omr that a file's text imports anywhere, and all that it imports at its top level."""
    tree = ast.parse(text)
    ours, top = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{n.name}" for n in node.names}
        elif isinstance(node, ast.Import):
            names = {n.name for n in node.names}
        else:
            continue
        ours |= {name for name in names if name.startswith("omr.")}
        if node in tree.body:
            top |= names
    return ours, top


def heavy_imports(text):
    """What a file imports at its top level that belongs inside a function."""
    heavy = HEAVY | HEAVY_ROOMS
    return {name for name in imports(text)[1] if any(f"{name}.".startswith(f"{h}.") for h in heavy)}


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", ROOMS, ids=name_of)
def test_imports_go_down(path):
    ours, _ = imports(path.read_text())
    own = wing(name_of(path))
    allowed = {own} | {other for other in HEIGHT if HEIGHT[other] < HEIGHT[own]}
    assert {wing(name) for name in ours} <= allowed


@pytest.mark.parametrize("path", ROOMS, ids=name_of)
def test_heavy_imports_stand_inside_the_function_that_needs_them(path):
    assert bool(heavy_imports(path.read_text())) == (name_of(path) in HEAVY_ROOMS)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import torch", {"torch"}),
        ("import torch.nn as nn", {"torch.nn"}),
        ("from torch import nn", {"torch.nn"}),
        ("from omr.training.trl import engine, trainer", {"omr.training.trl.trainer"}),
        ("from omr.training.trl.trainer import Trainer", {"omr.training.trl.trainer.Trainer"}),
        ("import omr.training.trl.trainer", {"omr.training.trl.trainer"}),
        ("def train():\n    from omr.training.trl.trainer import Trainer", set()),
        ("from omr.training.trl import engine\nimport trlx", set()),
    ],
)
def test_a_heavy_import_is_found(text, found):
    assert heavy_imports(text) == found


@pytest.mark.parametrize("path", sorted((ROOT / "omr" / "run").glob("*.py")), ids=name_of)
def test_a_runs_folder_needs_the_standard_library_alone(path):
    """An engine's own environment imports it, which has none of our packages."""
    assert {name.split(".")[0] for name in imports(path.read_text())[1]} <= {*sys.stdlib_module_names, "omr"}


@pytest.mark.parametrize("path", ROOMS, ids=name_of)
def test_a_room_is_read_in_one_sitting(path):
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("folder", sorted(p.parent for p in (ROOT / "omr").rglob("__init__.py")), ids=str)
def test_a_wing_says_what_it_is_for_and_holds_about_ten_rooms(folder):
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    assert len([p for p in folder.glob("*.py") if p.stem != "__init__"]) <= 12
