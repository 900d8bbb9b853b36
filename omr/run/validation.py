"""The rows of the problems that VALIDATION holds out of an SFT file: <name>.validation/<split>.jsonl.

`make data` writes them, a line as the SFT file has it; the training measures its loss on them, which never
were trained on.
"""

from dataclasses import dataclass
from pathlib import Path

from omr import manifest, records
from omr.files import Json
from omr.workspace import manifest_of

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
    if made is None or "validation" not in made:
        return ()
    with records.checked(manifest_of(data), "make data FORCE=1"):
        return tuple(
            records.of(ValidationFile, {**facts, "split": split, "path": f"{folder_of(data)}/{split}.jsonl"})
            for split, facts in made["validation"]["splits"].items()
        )


def covers(one: Json, other: Json) -> bool:
    """Whether an SFT file holds out all that another does, by the `inputs` of their manifests."""
    mine, theirs = one.get("validation"), other.get("validation")
    if mine == theirs or not theirs:
        return True
    # A share's problems are among those of a larger one (omr/data/held_out/choice.py).
    mine, theirs = (each.get("share") if isinstance(each, dict) else None for each in (mine, theirs))
    return isinstance(mine, float) and isinstance(theirs, float) and mine >= theirs


def loss_of(split: str) -> str:
    """The name of a split's loss in metrics.jsonl."""
    return f"{LOSS}_{split}"
