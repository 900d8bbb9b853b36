"""What a user waits for at the prompt: --help, a plan, the recipe table, beside a Python that imports click."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from bench.measure import Case, Place
from omr.settings import ROOT

COMMANDS = {
    "bin/train.py --help": ("bin/train.py", "--help"),
    "make plan, of 7b": ("bin/plan.py", "--model", "7b"),
    "make recipes": ("bin/recipes.py",),
    "make status, of an empty workspace": ("bin/status.py",),
}
FLOOR = "a Python that imports click"


def cases(place: Place) -> Iterator[Case]:
    """Each command beside the floor."""
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "WORKSPACE": str(place.scratch / "w"),
        "OMR_ENV_FILE": os.devnull,
    }

    def way(*words: str) -> Callable[[], float]:
        return lambda: milliseconds(words, environ)

    for what, (script, *words) in COMMANDS.items():
        yield Case(
            what, "ms", {"this toolkit": way(str(ROOT / script), *words), FLOOR: way("-c", "import click")}
        )


def milliseconds(words: Sequence[str], environ: dict[str, str]) -> float:
    """How long a Python with these words runs."""
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, *words], env=environ, capture_output=True, text=True)
    took = 1000 * (time.perf_counter() - begin)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr.strip()}")
    return took
