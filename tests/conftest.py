"""Fixtures of more than one wing."""

import os

from omr.settings import ROOT
from tests.models.kit import trained, trained_once  # noqa: F401

# Checkouts may share an environment, which knows one of them: the scripts that a test starts import this one.
os.environ["PYTHONPATH"] = str(ROOT)

LONGEST = ("test_demo.py", "test_adapt.py")


def pytest_collection_modifyitems(items):
    """The modules that take longest begin first, so that no worker waits for one at the end.

    xdist keeps this order with --no-loadscope-reorder alone.
    """
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
