"""Fixtures of more than one wing."""

import os

from omr.settings import ROOT
from tests.models.kit import trained, trained_once  # noqa: F401

# Checkouts may share an environment, which knows one of them: the scripts that a test starts import this one.
os.environ["PYTHONPATH"] = str(ROOT)
