"""VALIDATION=0.002, or a file of problems: which problems are held out.

A problem is known by a hash of its words (omr/data/held_out/problem.py). A share takes the problems whose
hash is small: the same ones in every round and for every SEED, and those of a smaller share are among those
of a larger one.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omr import files
from omr.data import prompts
from omr.data.held_out import problem
from omr.errors import OmrError, RequestError, shown
from omr.files import Json
from omr.recipe import Corpus

if TYPE_CHECKING:
    import numpy as np

ODD = "its problem is not where"  # begins the reason of a row in another prompt
MOST = 0.5  # of the problems; more is no validation set
HASHES = 2**64  # of a problem


@dataclass(frozen=True)
class HeldOut:
    """What VALIDATION names."""

    said: str
    share: float = 0.0  # of all problems
    problems: frozenset[int] = frozenset()  # hashes of a file's
    sha256: str | None = None  # of that file

    def holds(self, hashed: int) -> bool:
        """Whether the problem with this hash is held out."""
        return hashed < self.share * HASHES or hashed in self.problems

    def check(self, held_out: int, kept: int, name: str) -> None:
        """An OmrError where no row of a file is held out, or every one is."""
        if not (held_out and kept):
            rows = "every row" if held_out else "no row"
            advice = "name fewer problems" if held_out else "give a larger share, or problems that it has"
            raise OmrError(f"VALIDATION={self.said} holds out {rows} of {name}; {advice}")

    @property
    def identity(self) -> Json:
        """What was asked for, in a manifest's words."""
        return {"problems": self.sha256} if self.sha256 else {"share": self.share}


@dataclass(frozen=True)
class Found:
    """The rows of a batch, by their problem."""

    held_out: "np.ndarray"  # mask of the rows that have one
    hashes: set[int]  # of the problems that are held out
    without: dict[int, str]  # rows whose problem is not where it should be -> what is wrong


@dataclass(frozen=True)
class Rule:
    """Tells which rows of a corpus are held out."""

    corpus: Corpus
    held_out: HeldOut
    places: dict[str, problem.Place]  # of each split

    def prove(self, split: str, texts: Sequence[str]) -> None:
        """A RequestError where none of some rows has its problem where the split's prompt has it."""
        place = self.places[split]
        if texts and all(place.find(text) is None for text in texts):
            raise RequestError(
                f"VALIDATION={self.held_out.said}: none of {len(texts)} rows of {split} has a problem where"
                f" {place.prompt} has it; leave {split} out by MODES, or name the prompt of its rows in the"
                " recipe (asks)"
            )

    def rows(self, split: str, texts: Sequence[str]) -> Found:
        """The rows of a split with these texts in their problem's column."""
        import numpy as np

        place = self.places[split]
        found = [place.find(text) for text in texts]
        hashes = [problem.hashed(self.corpus, text) for text in found if text is not None]
        mask = np.array([self.held_out.holds(one) for one in hashes], bool)
        odd = f"{ODD} {place.prompt} has it"
        without = {row: odd for row, text in enumerate(found) if text is None}
        return Found(mask, {one for one, held in zip(hashes, mask, strict=True) if held}, without)


def rule(corpus: Corpus, held_out: HeldOut, splits: Sequence[str]) -> Rule:
    """The rule for some splits; a RequestError where a split's prompt does not tell the problem."""
    for split in splits if len(splits) > 1 else ():
        prompt = corpus.prompts[split]
        if prompt.config is None and prompt.asks is None:
            raise RequestError(
                f"VALIDATION={held_out.said}: {split} has whole prompts, in which no problem of another split"
                f" is found; name their configuration in the recipe (asks), or leave {split} out by MODES"
            )
    return Rule(corpus, held_out, {split: problem.place(corpus, split) for split in splits})


def inputs(corpus: Corpus, held_out: HeldOut, splits: Iterable[str]) -> Json:
    """What decides which rows are held out, for a manifest: what was asked for, and how a problem is told."""
    asks = {split: corpus.prompts[split].asks for split in splits}
    texts = [
        prompts.read_yaml(prompts.config_file(corpus, name))["user"]
        for name in asks.values()
        if name and corpus.prompt_folder  # those of nemo-skills its commit tells
    ]
    told = json.dumps([problem.FORM, corpus.same_problem, asks, texts])
    return {**held_out.identity, "told_by": hashlib.sha256(told.encode()).hexdigest()[:16]}


def of(corpus: Corpus, said: str) -> HeldOut:
    """What a user's VALIDATION means; a RequestError for what is neither a share nor a file of problems."""
    if said.endswith(".jsonl"):
        return _of_file(corpus, said)
    try:
        share = float(said)
    except ValueError:
        share = 0.0
    if not 0 < share <= MOST:
        raise RequestError(
            f"VALIDATION={shown(said)} is neither a share of the problems up to {MOST}, like 0.002, nor a"
            " .jsonl file of problems"
        )
    return HeldOut(said, share)


def _of_file(corpus: Corpus, said: str) -> HeldOut:
    """The problems of a file of JSON lines with `problem`, as evaluations read it."""
    path, found = Path(said).expanduser().absolute(), set()
    if not path.is_file():
        raise RequestError(f"VALIDATION={said}: no such file; name JSON lines with problem, or a share")
    files.refuse_lfs_pointer(path, "name another file of problems")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                text = json.loads(line.decode("utf-8-sig"))["problem"]
                if not isinstance(text, str):
                    raise TypeError
            except (ValueError, KeyError, TypeError, RecursionError):
                raise RequestError(
                    f'{path}:{number}: is no line of JSON with a problem; write {{"problem": "…"}}'
                ) from None
            found.add(problem.hashed(corpus, text))
    if not found:
        raise RequestError(f"{path}: has no problems; give it a line of JSON for each")
    return HeldOut(said, problems=frozenset(found), sha256=files.sha256(path))
