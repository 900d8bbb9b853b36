"""A hub that is slow, cuts, refuses and lies, while the base model is brought from it."""

import re
import tempfile
import time
from pathlib import Path

from omr import recipe
from omr.settings import ROOT
from omr.tiny import model as tiny_model

from ...models.hub.loopback import Hub
from ..trial import Trial
from .base import Fault

REVISION = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = "model.safetensors"


def published() -> dict[str, bytes]:
    """The files of the micro base as a hub has them, before the patch."""
    with tempfile.TemporaryDirectory() as folder:
        row = recipe.model("micro")
        tiny_model.write_base(Path(folder), made=recipe.of_model(row), name=row.name)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _recipe(trial: Trial) -> Path:
    """The tiny recipe, but for a micro base that a hub has."""
    folder = ROOT / "omr" / "recipes"
    text = (folder / "tiny.toml").read_text()
    here = f'micro = {{hub = "org/micro", revision = "{REVISION}"}}'
    text = text.replace('micro = {made_by = "tiny"}', here)
    text = re.sub(r'prompts = "\.\./', f'prompts = "{folder.parent}/', text)
    path = trial.root.with_name(f"{trial.root.name}.toml")
    path.write_text(text)
    return path


def _hub(*faults: tuple[str, dict]):
    def inflict(trial: Trial) -> None:
        file = _recipe(trial)
        with Hub() as hub:
            hub.add("model", "org/micro", published(), REVISION)
            for path, what in faults:
                hub.fault(path, **{"times": 1, **what})
            env = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(trial.root / "hf"), "HF_HUB_OFFLINE": ""}
            trial.strike()
            trial.attempt("--recipe", str(file), **env)
            if trial.noticed:
                began = time.monotonic()
                trial.attempt("--recipe", str(file), **env)
                trial.recovered = time.monotonic() - began
        file.unlink()
        # It is called after the recipe's file; its bytes are those of the model that the tiny recipe makes.
        (made,) = (trial.root / "models").glob("*/manifest.json")
        made.parent.rename(trial.root / "models" / "micro")

    return inflict


MODEL = ("model",)
FAULTS = (
    Fault("slow", MODEL, _hub((WEIGHTS, {"delay": 3.0}), ("tree", {"delay": 3.0}))),
    Fault("cuts", MODEL, _hub((WEIGHTS, {"cut": 200_000, "times": 2}))),
    Fault(
        "refuses for a while",
        MODEL,
        _hub(("tree", {"status": 503}), (WEIGHTS, {"status": 429, "retry_after": 1})),
    ),
    Fault("lies once", MODEL, _hub((WEIGHTS, {"body": bytes(1_000_000)}), ("config.json", {"body": b"{}"}))),
    Fault("lies whenever it is asked", MODEL, _hub((WEIGHTS, {"body": bytes(1_000_000), "times": 3}))),
    Fault("is gone, then back", MODEL, _hub(("tree", {"status": 500, "times": 5}))),
)
