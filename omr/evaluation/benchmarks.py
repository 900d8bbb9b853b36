"""Which problems are asked: a benchmark out of the installed nemo-skills, tiny's own, or a user's file."""

import itertools
import shutil
import subprocess
import sys
from pathlib import Path

from omr import recipe
from omr.errors import OmrError, RequestError, shown
from omr.evaluation.problems import Problem, ProblemSet, read
from omr.files import building, lock
from omr.recipe import nemo_skills

TINY = "tiny"


def load(run: recipe.Run, name: str | None, file: Path | None, folder: Path) -> ProblemSet:
    """BENCHMARK and PROBLEMS as problems; by default the recipe's benchmark, for tiny its own.

    `folder` is where what a benchmark's own prepare step makes is kept. A RequestError names what is missing
    or malformed.
    """
    if file:
        if name:
            raise RequestError(f"BENCHMARK={name} and PROBLEMS={file} are both set; leave one out")
        return ProblemSet(str(file), tuple(read(file)))
    evaluation = recipe.of_model(run.model).evaluation
    most = evaluation.problems if name in (None, evaluation.benchmark) else None
    name = name or evaluation.benchmark
    if name == TINY:
        from omr.tiny import corpus

        return ProblemSet(TINY, tuple(Problem(**row) for row in corpus.held_out(*[most] * bool(most))))
    path = Path(name) if name == evaluation.benchmark and name.endswith(".jsonl") else _file(name, folder)
    return ProblemSet(name, tuple(itertools.islice(read(path), most)))


def _file(name: str, folder: Path) -> Path:
    """The problems of a data set of nemo-skills, as JSON lines."""
    source = nemo_skills.data_set(name)
    made = folder / name / "test.jsonl"
    # comp-math-24-25 is shipped as test.txt, with the same lines.
    for there in (source / "test.jsonl", source / "test.txt", made):
        if there.exists():
            return there
    with lock(folder / f".{name}.lock", f"BENCHMARK={name}"):
        _prepare(source, folder / name)
    if not made.exists():
        raise RequestError(
            f"BENCHMARK={name}: its prepare step made no test.jsonl; set PROBLEMS to a JSON-lines file of it"
        )
    return made


def _prepare(source: Path, target: Path) -> None:
    """Run a data set's own prepare step on a copy, which becomes `target`: it writes beside itself."""
    with building(target) as aside:
        shutil.copytree(source, aside, dirs_exist_ok=True)
        done = subprocess.run(
            [sys.executable, "prepare.py"],
            cwd=aside,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            last = shown((done.stderr.strip().splitlines() or ["it says nothing"])[-1])
            raise OmrError(
                f"BENCHMARK={source.name}: its prepare step failed ({last}); give it the network it needs, or"
                " set PROBLEMS to a JSON-lines file of it"
            )
