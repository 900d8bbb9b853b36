"""A hub that is slow, cuts, refuses and lies, while the base model or the corpus is brought from it."""

import re
import tempfile
import time
from pathlib import Path

from omr import recipe
from omr.settings import ROOT
from omr.tiny import model as tiny_model

from ...models.hub.loopback import Hub
from ..proof import repeat
from ..trial import Trial
from .base import Fault
from .damage import take

REVISION = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS, SHARD = "model.safetensors", "data/cot-00000-of-00003.parquet"
# What of tiny.toml comes from a hub in its place, and what a stage brings of it.
BASE = ('micro = {made_by = "tiny"}', f'micro = {{hub = "org/micro", revision = "{REVISION}"}}')
CORPUS = (
    'made_by = "tiny"\n',
    f'hub = "org/sums"\nrevision = "{REVISION}"\n'
    f'prompt_tokenizer = {{hub = "org/micro", revision = "{REVISION}"}}\n',
)
BROUGHT = {"model": BASE, "data": CORPUS}


def published() -> dict[str, bytes]:
    """The files of the micro base as a hub has them, before the patch."""
    with tempfile.TemporaryDirectory() as folder:
        row = recipe.model("micro")
        tiny_model.write_base(Path(folder), made=recipe.of_model(row), name=row.name)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _recipe(trial: Trial) -> Path:
    """The tiny recipe, but for what the stage brings from a hub."""
    folder = ROOT / "omr" / "recipes"
    text = (folder / "tiny.toml").read_text()
    old, new = BROUGHT[trial.stage.name]
    assert text.count(old) == 1, old
    text = re.sub(r'prompts = "\.\./', f'prompts = "{folder.parent}/', text.replace(old, new))
    path = trial.root.with_name(f"{trial.root.name}.toml")
    path.write_text(text)
    return path


def _fill(hub: Hub, trial: Trial) -> None:
    hub.add("model", "org/micro", published(), REVISION)
    raw = trial.undisturbed.root / "raw/tiny"
    shards = {str(path.relative_to(raw)): path.read_bytes() for path in raw.glob("data/*.parquet")}
    hub.add("dataset", "org/sums", shards, REVISION)


def _hub(*faults: tuple[str, dict], record: bool = False):
    """The hub meets its faults; with `record` all was brought before, and what says so is spoiled."""

    def inflict(trial: Trial) -> None:
        file = _recipe(trial)
        words = ["--recipe", str(file)]
        words += ["--dataset", file.stem] if trial.stage.name == "data" else []
        with Hub() as hub:
            _fill(hub, trial)
            env = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(trial.root / "hf"), "HF_HUB_OFFLINE": ""}
            if record:
                trial.attempt(*words, **env)
                for path in trial.root.glob(f"data/{file.stem}*"):
                    path.unlink()
                take(trial.root / "raw" / file.stem / ".hub.json", trial)
            for path, what in faults:
                hub.fault(path, **{"times": 1, **what})
            trial.strike()
            trial.attempt(*words, **env)
            if trial.noticed:
                while trial.undo:
                    trial.undo.pop()()
                began = time.monotonic()
                trial.attempt(*words, **env)
                trial.recovered = time.monotonic() - began
            repeat(trial, *words, **env)
        file.unlink()
        # They are called after the recipe's file; their bytes are those that the tiny recipe makes.
        for path in (*(trial.root / "models").glob(f"{file.stem}*"), *trial.root.glob(f"data/{file.stem}*")):
            name = "micro" if path.parent.name == "models" else path.name.replace(file.stem, "tiny")
            path.rename(path.with_name(name))

    return inflict


MODEL, DATA = ("model",), ("data",)
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
    Fault("a shard is slow", DATA, _hub((SHARD, {"delay": 3.0}), ("tree", {"delay": 3.0}))),
    Fault("a shard is cut", DATA, _hub((SHARD, {"cut": 40_000, "times": 2}))),
    Fault("a shard is another one", DATA, _hub((SHARD, {"body": b"PAR1" + bytes(50_000) + b"PAR1"}))),
    Fault("a tokenizer is another one", DATA, _hub(("tokenizer.json", {"body": b"{}", "times": 3}))),
    Fault("is gone while the corpus is brought", DATA, _hub(("tree", {"status": 500, "times": 5}))),
    Fault("the record of what it brought is spoiled", DATA, _hub(record=True)),
)
