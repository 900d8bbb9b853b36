"""Fixtures of more than one wing."""

from tests.models.kit import trained, trained_once  # noqa: F401
