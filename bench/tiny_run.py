"""A workspace with the tiny recipe's data and base model, which several families measure in."""

import os
import subprocess
import sys
from pathlib import Path

from omr.settings import ROOT


def environment(workspace: Path, **more: str) -> dict[str, str]:
    """What the scripts see: no .env, this checkout, this workspace."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    return {**clean, "PYTHONPATH": str(ROOT), "WORKSPACE": str(workspace), "OMR_ENV_FILE": os.devnull, **more}


def run(script: str, *words: str, environ: dict[str, str]) -> str:
    """The output of a script of bin/; the bench ends where it fails."""
    command = [sys.executable, str(ROOT / "bin" / script), *words]
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{script}: {done.stderr.strip()[-500:]}")
    return done.stdout


def make(workspace: Path) -> Path:
    """Data of round 1 and base model of tiny, made once for a workspace."""
    environ = environment(workspace)
    run("data.py", "--dataset", "tiny", environ=environ)
    run("model.py", "--model", "tiny", environ=environ)
    return workspace
