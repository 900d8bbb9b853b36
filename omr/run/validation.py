"""The rows of the problems that VALIDATION holds out of an SFT file: <name>.validation/<split>.jsonl.

`make data` writes them, a line as the SFT file has it; the training measures its loss on them, which never
were trained on. At its end `make validate` measures the final model and its parts: <run>/validation.json.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from omr import manifest, records
from omr.errors import RequestError, shown
from omr.files import Json, read_json, sha256, write_json
from omr.settings import get
from omr.workspace import RunFolder, manifest_of

FINAL = "final"  # the averaged model's name among those that are measured
LOSS = "val_loss"  # of all splits' tokens together, in metrics.jsonl; of one split val_loss_<split>


@dataclass(frozen=True)
class ValidationFile:
    """The held-out rows of a split."""

    split: str
    path: Path
    sha256: str
    size: int  # bytes
    rows: int


def folder_of(data: Path) -> Path:
    """Where the held-out rows of an SFT file are."""
    return data.with_suffix(".validation")


def files_of(data: Path) -> tuple[ValidationFile, ...]:
    """The held-out rows of a finished SFT file by split, in the recipe's order; () where there are none.

    A split without a held-out row has no file. An OmrError for a damaged manifest.
    """
    made = manifest.read(data)
    if made is None or ("validation" not in made and "validation" not in made.get("inputs", {})):
        return ()
    with records.checked(manifest_of(data), "make data FORCE=1"):
        records.of(int, made["validation"]["problems"], "validation.problems")
        if not made["validation"]["splits"]:
            raise records.Odd("no split has a held-out row")
        return tuple(
            records.of(ValidationFile, {**facts, "split": split, "path": f"{folder_of(data)}/{split}.jsonl"})
            for split, facts in made["validation"]["splits"].items()
        )


def _asked(inputs: Json) -> Json | None:
    """The share, or the hash of the file, that a manifest's inputs have; None where nothing is held out."""
    said = inputs.get("validation")
    return {k: said[k] for k in ("share", "problems") if k in said} if isinstance(said, dict) else None


def refuse_other(data: Path, made: Json) -> None:
    """A RequestError where VALIDATION is set, and an SFT file, whose manifest is `made`, holds out otherwise.

    It belongs to make data: set for a training alone it would change nothing, without a word.
    """
    said = get("VALIDATION")
    if not said:
        return
    try:
        file = Path(said).expanduser()
        asked = {"problems": sha256(file)} if said.endswith(".jsonl") else {"share": float(said)}
    except (OSError, ValueError):
        asked = said
    if _asked(made.get("inputs", {})) != asked:
        told = "holds out other problems" if "validation" in made else "holds out no problem"
        raise RequestError(
            f"VALIDATION={shown(said)}: {data} {told}; run make data VALIDATION={shown(said)} NAME=… first,"
            " then this with that NAME"
        )


def covers(one: Json, other: Json) -> bool:
    """Whether an SFT file holds out all that another does, by the `inputs` of their manifests."""
    mine, theirs = _asked(one), _asked(other)
    if mine == theirs or not theirs:
        return True
    # A share's problems are among those of a larger one (omr/data/held_out/choice.py).
    mine, theirs = (each.get("share") if each else None for each in (mine, theirs))
    return isinstance(mine, float) and isinstance(theirs, float) and mine >= theirs


def digest_of(held_out: Sequence[ValidationFile]) -> str:
    """Hex digest of the held-out rows: of each split's name and its file's hash."""
    named = [[each.split, each.sha256] for each in held_out]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


@dataclass(frozen=True)
class ModelLosses:
    """validation.json: the losses of a run's final model and of its parts on the held-out rows.

    A model is `final`, or `step_<n>` that was averaged into it; one that was pruned before is not there.
    """

    data: str  # `digest_of` the rows
    precision: str  # of the arithmetic: float32, bfloat16
    identities: dict[str, str]  # model -> frozen.identity of its folder
    models: dict[str, dict[str, float]]  # model -> LOSS and `loss_of` each split -> nats a trained token

    def save(self, folder: RunFolder) -> None:
        """Write it, whole or not at all."""
        write_json(folder.validation_json, asdict(self))


def current(
    found: ModelLosses | None, held_out: Sequence[ValidationFile], models: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """The losses that still hold: on these rows, and of `models` as they are now (frozen.final_models)."""
    if found is None or found.data != digest_of(held_out):
        return {}
    same = {name for name, identity in found.identities.items() if models.get(name) == identity}
    return {name: losses for name, losses in found.models.items() if name in same}


def losses_of(folder: RunFolder) -> ModelLosses | None:
    """What `make validate` has found so far, None before it was asked; an OmrError for a damaged file."""
    path = folder.validation_json
    if not path.exists():
        return None
    with records.checked(path, "remove it and run make validate again"):
        return records.of(ModelLosses, read_json(path))


def loss_of(split: str) -> str:
    """The name of a split's loss in metrics.jsonl."""
    return f"{LOSS}_{split}"
