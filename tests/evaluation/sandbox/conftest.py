"""What was running before a test is not the test's."""

import psutil
import pytest

from tests.evaluation.sandbox import kit


@pytest.fixture(autouse=True)
def those_before():
    kit.BEFORE.clear()
    kit.BEFORE.update(process.pid for process in psutil.Process().children(recursive=True))
