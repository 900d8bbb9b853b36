"""Which of the two images a stage runs in."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from omr import recipe
from omr.errors import choose
from omr.runner import argument

STAGES = ("tools", "train")
ASKING = ("eval.py", "serve.py", "ask.py", "validate.py")  # scripts that run a model, and train none


def stage_of(tier: str, script: str, args: Sequence[str], environ: Mapping[str, str]) -> str:
    """`train` has NeMo-RL, and with it a torch and vLLM for a real model on GPUs; the rest runs in `tools`.

    A shell runs where STAGE says.
    """
    if tier == "shell":
        return choose("STAGE", environ.get("STAGE") or "tools", STAGES)
    model = recipe.MODELS.get(argument("MODEL", args, environ) or "")
    if Path(script).name in ASKING:
        elsewhere = argument("SERVER", args, environ)
        return "train" if model and model.gpus and not elsewhere and machine_has_gpus() else "tools"
    if Path(script).name != "train.py":
        return "tools"
    engine = argument("ENGINE", args, environ) or (model.engine if model else "trl")
    return "train" if engine == "nemo-rl" else "tools"


def machine_has_gpus() -> bool:
    """Whether this machine has NVIDIA's driver."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
