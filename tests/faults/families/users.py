"""Two people at one folder, and a submitter that is killed half-way."""

import os
import signal
import subprocess
import sys
import threading
import time

from omr.settings import ROOT

from ..trial import Trial
from ..user import Refused
from .base import ALL, Fault


def _asked_twice(trial: Trial) -> None:
    """The same command by two at the same moment."""
    answers = []

    def ask() -> None:
        with trial.user.start(trial.stage) as process:
            answers.append((process.communicate(timeout=120)[0], process.returncode))

    askers = [threading.Thread(target=ask) for _ in range(2)]
    trial.strike()
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    refused = [said for said, code in answers if code]
    if len(refused) == 2:
        raise Refused(f"both were refused: {refused}")
    trial.words += refused
    trial.jobs = trial.user.ids(trial.stage)
    trial.user.running(trial.jobs)
    trial.user.wait(trial.jobs)
    for row in trial.cluster.call("squeue", "-h", "-o", "%i %k").splitlines():  # of the other submission
        if str(trial.root) in row:
            trial.user.wait({"other": row.split()[0]})


def _beside_it(trial: Trial) -> None:
    """The same stage on the login node, without Slurm, while its job works."""
    trial.begin()
    script = [sys.executable, str(ROOT / trial.stage.script), *trial.stage.words]
    script = script[:-2] if trial.stage.name == "train" else script
    env = {**trial.user.env, **dict(trial.stage.settings), "RUNNER": "host"}
    trial.strike()
    done = subprocess.run(script, env=env, cwd=ROOT, capture_output=True, text=True, timeout=200)
    trial.words.append(done.stdout + done.stderr)
    if done.returncode:
        trial.noticed = time.monotonic()
    trial.end()


def _submitter_killed(trial: Trial) -> None:
    """What it has submitted is held, and goes with the next submission."""
    process = trial.user.start(trial.stage)
    time.sleep(trial.dice.uniform(0.1, 1.6 if trial.stage.submits else 0.9))
    trial.strike()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    trial.noticed = time.monotonic()
    live = [job for job in trial.user.ids(trial.stage).values() if trial.user.reason(job) != "JobHeldUser"]
    trial.user.wait({job: job for job in live})  # it was done already


FAULTS = (
    Fault("two submit at the same moment", ALL, _asked_twice),
    Fault("the same on the login node beside the job", ALL, _beside_it),
    Fault("a submitter is killed half-way", ALL, _submitter_killed),
)
