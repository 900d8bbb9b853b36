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
HEAVY = {"torch", "transformers", "datasets", "trl", "pyarrow", "numpy", "matplotlib", "huggingface_hub"}
ROOMS = sorted((ROOT / "omr").rglob("*.py"))


def wing(module):
    """`omr.data.rows` -> data; a module of omr/ itself belongs to the core."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (ROOT / "omr" / parts[1]).is_dir() else "core"


def imports(path):
    """Modules of omr that a file imports anywhere, and all that it imports at its top level."""
    tree = ast.parse(path.read_text())
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


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", ROOMS, ids=name_of)
def test_imports_go_down(path):
    ours, top = imports(path)
    own = wing(name_of(path))
    allowed = {own} | {other for other in HEIGHT if HEIGHT[other] < HEIGHT[own]}
    assert {wing(name) for name in ours} <= allowed
    heavy = {name.split(".")[0] for name in top} & HEAVY
    assert not heavy, "heavy imports stand inside the function that needs them"


@pytest.mark.parametrize("path", sorted((ROOT / "omr" / "run").glob("*.py")), ids=name_of)
def test_a_runs_folder_needs_the_standard_library_alone(path):
    """An engine's own environment imports it, which has none of our packages."""
    assert {name.split(".")[0] for name in imports(path)[1]} <= {*sys.stdlib_module_names, "omr"}


@pytest.mark.parametrize("path", ROOMS, ids=name_of)
def test_a_room_is_read_in_one_sitting(path):
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("folder", sorted(p.parent for p in (ROOT / "omr").rglob("__init__.py")), ids=str)
def test_a_wing_says_what_it_is_for_and_holds_about_ten_rooms(folder):
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    assert len([p for p in folder.glob("*.py") if p.stem != "__init__"]) <= 11
