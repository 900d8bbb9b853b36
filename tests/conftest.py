"""Fixtures of more than one wing."""

import os

from omr.settings import ROOT
from tests.models.kit import trained, trained_once  # noqa: F401

# Checkouts may share an environment, which knows one of them: the scripts that a test starts import this one.
os.environ["PYTHONPATH"] = str(ROOT)


def pytest_collection_modifyitems(items):
    """The module that takes longest begins first, so that no worker waits for it at the end."""
    items.sort(key=lambda item: item.path.name != "test_demo.py")
