"""Where the editions of the recipe differ for a run, in NeMo-RL's keys: read from what each would write."""

from dataclasses import replace
from pathlib import Path

from omr import recipe
from omr.training.nemo_rl import checks, config, keys, ties
from omr.training.nemo_rl.keys import Value
from omr.workspace import RunFolder

# The keys that the one-box engine has an equal of; it trains with the epsilon of config.json in any edition.
ONE_BOX = (f"{ties.MEGATRON}.optimizer.clip_grad", ties.MASKED)


def differing(run: recipe.Run) -> dict[str, dict[str, Value]]:
    """NeMo-RL's keys whose values are not the same in all editions of a run, with each edition's value."""
    written = {name: dict(_keys(replace(run, edition=name))) for name in recipe.EDITIONS}
    found = {key: {name: written[name][key] for name in written} for key in written[recipe.PINNED]}
    return {key: values for key, values in found.items() if len(set(map(repr, values.values()))) > 1}


def _keys(run: recipe.Run) -> list[tuple[str, Value]]:
    """What NeMo-RL would read about the training alone: paths and sizes are the same for every edition."""
    anywhere, model = Path("/"), run.model
    inputs = config.Inputs(
        run, RunFolder(anywhere), anywhere, anywhere, 1, model.tensor_parallel * model.context_parallel
    )
    values = {key: value for key, value in config.values(inputs).items() if key not in checks.MACHINE}
    return list(keys.flatten(values))


def lines(run: recipe.Run, engine: str) -> list[str]:
    """A run's edition and, beside each of the others, what it has differently and an engine reads."""
    read = {
        key: values
        for key, values in differing(run).items()
        if key not in ties.SILENT and (engine == "nemo-rl" or key in ONE_BOX)
    }
    others = [name for name in recipe.EDITIONS if name != run.edition]
    return [
        f"{run.edition}: {run.text.text}",
        *(f"beside {name}: {_difference(read, run.edition, name)}" for name in others),
    ]


def _difference(found: dict[str, dict[str, Value]], ours: str, other: str) -> str:
    """`clip_grad 1.0, not 0.0; …`"""
    said = [
        f"{key.rpartition('.')[2]} {values[ours]}, not {values[other]}"
        for key, values in found.items()
        if values[ours] != values[other]
    ]
    return "; ".join(said) or "the same"
