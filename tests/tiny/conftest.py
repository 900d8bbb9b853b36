"""The tiny base model, written once for all tests of a file."""

import pytest

from omr.tiny.model import write_base


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    write_base(folder)
    return folder
