"""The submission of a graph, and a link's start to its engine's start, with stand-ins for Slurm's commands.

The stand-ins answer at once, so that what is measured is the toolkit's own part.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench import tiny_run
from bench.measure import Case, Place

LINKS = 8
COMMANDS = "slurm"  # the folder of the stand-ins
# sbatch counts its calls in a file; squeue knows no job, but the end of one that is asked for.
SBATCH = (
    '#!/bin/sh\nn=$(($(cat "${0%/*}/count" 2>/dev/null || echo 100) + 1))\necho "$n" | tee "${0%/*}/count"\n'
)
SQUEUE = '#!/bin/sh\ncase "$*" in *%e*) date -d "+4 hours" +%Y-%m-%dT%H:%M:%S ;; esac\n'
QUIET = "#!/bin/sh\n"
# What a link starts in place of an engine: it says when it began.
ENGINE = "import sys, time; open(sys.argv[1], 'w').write(str(time.time()))"


def cases(place: Place) -> Iterator[Case]:
    """A whole pipeline's submission, and a link of tiny's chain."""
    slurm = _stand_ins(place.scratch / COMMANDS)
    yield _submission(place, slurm)
    yield _link(place, slurm)


def _stand_ins(folder: Path) -> dict[str, str]:
    """Write the commands; returns what a process needs to find them."""
    folder.mkdir()
    for name, text in (
        ("sbatch", SBATCH),
        ("squeue", SQUEUE),
        ("scontrol", QUIET),
        ("scancel", QUIET),
        ("sacct", QUIET),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    image = folder / "omr.sqsh"  # with an image no environment is made for the nodes
    image.touch()
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "RUNNER": "slurm", "CONTAINER": str(image)}


def _submission(place: Place, slurm: dict[str, str]) -> Case:
    workspace, count = place.scratch / "pipeline", place.scratch / COMMANDS / "count"
    environ = tiny_run.environment(workspace, **slurm)

    def ours() -> float:
        shutil.rmtree(workspace, ignore_errors=True)
        count.unlink(missing_ok=True)
        begin = time.perf_counter()
        tiny_run.run("pipeline.py", "--model", "7b", "--num_training_jobs", str(LINKS), environ=environ)
        return time.perf_counter() - begin

    ours()
    jobs = int(count.read_text()) - 100

    def bare() -> float:
        begin = time.perf_counter()
        for _ in range(jobs):
            subprocess.run(["sbatch"], env=environ, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - begin

    what = f"make pipeline of 7b: {jobs} jobs submitted"
    return Case(
        what, "s", {"this toolkit": ours, "as many bare calls of sbatch": bare}, "sbatch is a stand-in"
    )


def _link(place: Place, slurm: dict[str, str]) -> Case:
    workspace, began = tiny_run.make(place.scratch / "chain"), place.scratch / "began"
    environ = tiny_run.environment(workspace, **slurm)
    tiny_run.run("train.py", "--model", "tiny", "--num_training_jobs", "2", environ=environ)
    run_folder = workspace / "runs" / "tiny" / "round1"
    jobs = json.loads((run_folder / "jobs.json").read_text())["jobs"]
    job = next(entry["id"] for entry in jobs if entry["key"] == "train-1")
    environ |= {"SLURM_JOB_ID": job, "MODEL": "tiny", "ROUND": "1", "LINK": "1", "LINKS": "2", "GPUS": "0"}
    engine = [sys.executable, "-S", "-c", ENGINE, str(began)]

    def after(command: list[str]) -> float:
        # The first attempt of a fresh chain each time: two without a checkpoint would stop it.
        shutil.rmtree(run_folder / "lease", ignore_errors=True)
        (run_folder / "links.json").unlink(missing_ok=True)
        began.unlink(missing_ok=True)
        begin = time.time()
        done = subprocess.run(command, env=environ, capture_output=True, text=True)
        if not began.exists():
            raise SystemExit(f"the link started no engine: {done.stdout[-500:]}{done.stderr[-500:]}")
        return 1000 * (float(began.read_text()) - begin)

    link = [sys.executable, str(tiny_run.ROOT / "bin" / "link.py"), "--", *engine]
    ways = {"this toolkit": lambda: after(link), "the engine's process alone": lambda: after(engine)}
    return Case(
        "a link's start to its engine's start",
        "ms",
        ways,
        "inputs proved, lease taken; one node, Slurm a stand-in",
    )
