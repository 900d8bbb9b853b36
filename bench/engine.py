"""The one-box engine beside a plain TRL script with the same settings on a CPU: tokens a second, and the losses."""

import json
import subprocess
import sys
from collections.abc import Iterator

from bench import tiny_run
from bench.measure import Case, Place
from omr.run import metrics
from omr.settings import ROOT

STEPS = 24
DIGITS = 4  # to which the losses of every step are to be equal
Step = tuple[float, int, float]  # its loss, its tokens, when it ended (seconds)


def cases(place: Place) -> Iterator[Case]:
    """Steps of tiny's round 1, without the start and the first step."""
    workspace = tiny_run.make(place.scratch / "engine")
    environ = tiny_run.environment(workspace, RUNNER="host", CUDA_VISIBLE_DEVICES="")
    folder, out = workspace / "runs" / "tiny" / "round1-bench", place.scratch / "plain.json"

    def ours() -> list[Step]:
        words = ("--model", "tiny", "--steps", str(STEPS), "--name", "bench", "--force")
        tiny_run.run("train.py", *words, environ=environ)
        return [(row["loss"], row["tokens"], row["time"]) for row in metrics.read(folder / "metrics.jsonl")]

    def plain() -> list[Step]:
        command = [sys.executable, str(ROOT / "bench" / "plain_trl.py"), str(folder), str(out)]
        done = subprocess.run(command, env=environ, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"plain_trl.py: {done.stderr[-500:]}")
        return [(loss, tokens, at) for loss, tokens, at in json.loads(out.read_text())]

    digits = equal_digits([loss for loss, *_ in ours()], [loss for loss, *_ in plain()])
    equal = f"the losses of all {STEPS} steps are equal to {DIGITS} digits"
    ways = {"this toolkit": lambda: speed(ours()), "a plain TRL script": lambda: speed(plain())}
    note = equal if digits >= DIGITS else f"THE LOSSES DIFFER after {digits} digits"
    yield Case(f"training, {STEPS} steps of tiny, fp32 on a CPU", "tokens/s", ways, note)


def speed(steps: list[Step]) -> float:
    """Tokens a second, after the first step."""
    return sum(tokens for _, tokens, _ in steps[1:]) / (steps[-1][2] - steps[0][2])


def equal_digits(ours: list[float], theirs: list[float]) -> int:
    """To how many significant digits the losses agree, in the step where they agree least; 0 for other steps."""
    if len(ours) != len(theirs):
        return 0
    apart = max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))
    return next(digits for digits in range(16, -1, -1) if apart <= 0.5 * 10 ** (1 - digits) or not digits)
