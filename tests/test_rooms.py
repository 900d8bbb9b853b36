"""Who may import whom: downward only, so that a reader goes down once."""

import ast

import pytest

from omr.settings import ROOT

# From the bottom up; a room may import the rooms of the rows below its own, and its neighbours.
FLOORS = (
    ("errors",),
    ("recipe", "settings"),
    ("workspace", "files"),
    ("manifest",),
    ("runs",),
)
ATTIC = ("cli", "hub", "report", "doctor")
# Rooms that are compiled as they are imported: the others import them as they would LLVM itself.
HEAVY = ("escape", "warm")
STDLIB_ONLY = ("errors", "recipe", "workspace")


def imports(room):
    """Rooms of omr that a file imports anywhere, and all that it imports at its top level."""
    tree = ast.parse((ROOT / "omr" / f"{room}.py").read_text())
    rooms, top = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "omr" else [f"omr.{n.name}" for n in node.names]
        elif isinstance(node, ast.Import):
            names = [n.name for n in node.names]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("omr.")}
        if node in tree.body:
            top |= {name if name.startswith("omr.") else name.split(".")[0] for name in names}
    return rooms, top


def floor(room):
    """How high a room stands: the numbered floors, the rooms proper, the attic."""
    for height, names in enumerate(FLOORS):
        if room in names:
            return height
    return len(FLOORS) + (room in ATTIC)


ROOMS = sorted(p.stem for p in (ROOT / "omr").glob("*.py") if p.stem != "__init__")


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_down(room):
    rooms, top = imports(room)
    upward = {other for other in rooms if floor(other) > floor(room)}
    assert not upward
    heavy = top & {
        "torch",
        "transformers",
        "datasets",
        "trl",
        "pyarrow",
        "numpy",
        "llvmlite",
        "matplotlib",
        "huggingface_hub",
        *(f"omr.{other}" for other in HEAVY),
    }
    assert not heavy or room in HEAVY, "heavy imports stand inside the function that needs them"


@pytest.mark.parametrize("room", STDLIB_ONLY)
def test_the_lowest_rooms_need_nothing(room):
    import sys

    assert {name.split(".")[0] for name in imports(room)[1]} <= {*sys.stdlib_module_names, "omr"}
