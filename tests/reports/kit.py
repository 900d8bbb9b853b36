"""Runs to make a page of, as the project's own writers leave them: begun, finished, a chain of faults."""

import json
import math
from datetime import datetime
from unittest import mock

from omr import manifest, recipe
from omr.evaluation import results
from omr.request import TrainRequest
from omr.run import events, frozen
from omr.workspace import Workspace
from tests.evaluation.kit import found

SPLITS = {
    "cot": {"read": 12, "kept": 8, "dropped": {"source": 3, "pass rate <i>": 1}, "rejected": {}},
    "tir": {"read": 6, "kept": 5, "dropped": {"source": 1}, "rejected": {}},
}
NOON = datetime(2026, 1, 31, 12).timestamp()


def begin(root, steps=8, name="page"):
    """A run that was asked for, with a model and data that are finished; returns it and its folder."""
    workspace, run = Workspace(root), recipe.run("tiny", steps=steps, name=name)
    if not workspace.model("tiny").exists():
        files = {
            "model.safetensors": {"size": 2, "sha256": "ab12"},
            "config.json": {"size": 2, "sha256": "cd"},
        }
        workspace.model("tiny").mkdir(parents=True)
        passport = {
            "published": {"rope_theta": 10000},
            "patched": {"rope_theta": 500000.0, "eos_token": "<|i>"},
        }
        manifest.write(workspace.model("tiny"), {"model": "tiny"}, files=files, passport=passport)
        data = workspace.data("tiny", "round1")
        data.parent.mkdir()
        data.write_text("row\n")
        inputs = {"corpus": "tiny", "round": "round1", "modes": ["cot", "tir"], "seed": 5}
        manifest.write(data, inputs, sha256="11ee", size=4, rows=13, splits=SPLITS)
    folder = workspace.run(run)
    frozen.freeze(folder, frozen.inputs(TrainRequest.of(run), workspace))
    return run, folder


def finish(folder, steps=8):
    """Metrics, the last line of them torn; an evaluation; final/."""
    rows = [{"step": n, "loss": 3.0 / n, "lr": n / 1000} for n in range(1, steps + 1)]
    folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 9, "lo')
    results.write(folder.eval_json, found("tiny", ("easy", "hard")))
    for step in range(2, steps + 1, 2):
        folder.checkpoint(step).mkdir(parents=True)
    folder.final.mkdir()
    averaged = {str(step): "ab" for step in range(2, steps + 1, 2)}
    files = {"model.safetensors": {"size": 2, "sha256": "fe98"}}
    manifest.write(
        folder.final, {"steps": averaged}, files=files, passport={"final": {"rope_theta": 500000.0}}
    )


def log(folder, seconds, line):
    """A line of the event log, so many seconds after noon."""
    with mock.patch.object(events, "datetime") as clock:
        clock.now.return_value = datetime.fromtimestamp(NOON + seconds)
        events.log_event(folder, line)


def long_chain(folder, steps=30_000, links=200):
    """A chain of so many links, as NeMo-RL and Slurm leave it: one in five is lost, one in seven requeued.

    A step takes 10 s; a link waits a quarter of an hour in the queue.
    """
    each, time, start = steps // links, 0.0, 0
    lines = []
    for n in range(1, links + 1):
        who = f"link {n} of {links}, job {1000 + n}" + (", start 2" if n % 7 == 0 else "")
        time += 900
        if n % 5 == 1 and n > 1:
            log(folder, time - 5, f"{who}: job {999 + n} ended without recording a result (killed)")
        log(folder, time, f"{who}: {f'trains on from step {start}' if start else 'trains from the start'}")
        for step in range(start + 1, start + each + 1):
            time += 10
            loss = (
                0.4
                + 2 * math.exp(-step / 900)
                + 0.05 * math.sin(step * 12.9898)
                + (9 if step == 11_111 else 0)
            )
            lines.append(
                {"step": step, "time": NOON + time, "loss": loss, "grad_norm": 1 + math.cos(step) ** 2}
            )
            lines[-1] |= {"lr": 2e-4 * (1 - step / steps), "global_valid_toks": 5e6}
            lines.append({"step": step, "time": NOON + time + 0.1, "total_step_time": 9.5 + math.sin(step)})
        if n % 5:
            start += each
            log(folder, time, f"{who}: the allocation ends in 600 s: saves and stops")
            log(folder, time + 60, f"{who}: saved step {start} of {steps}")
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
