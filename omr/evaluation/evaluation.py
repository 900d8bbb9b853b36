"""One model asked in one mode: the folder of its answers, which is named by all that decides them."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from omr import manifest, recipe
from omr.errors import OmrError, RequestError
from omr.evaluation import samples
from omr.evaluation.modes.base import Mode
from omr.evaluation.problems import Problem
from omr.evaluation.request import Sampling
from omr.evaluation.samples import Kept, SampleId
from omr.evaluation.servers.base import Engine
from omr.files import Json, sha256, write_json
from omr.models import passport, tokens, weights
from omr.models.architecture import EMBEDDING
from omr.workspace import Workspace, manifest_of


@dataclass(frozen=True)
class Part:
    """One of `of` parts of an evaluation, each with the samples whose number leaves this rest."""

    number: int = 0
    of: int = 1

    @classmethod
    def of_text(cls, text: str) -> "Part":
        """`2/8`; a RequestError for anything else."""
        number, slash, of = text.partition("/")
        if slash and number.isdecimal() and of.isdecimal() and int(number) < int(of):
            return cls(int(number), int(of))
        raise RequestError(f"--part {text}: is no part; write 0/8 to 7/8 for eight")

    @property
    def name(self) -> str:
        """Its word in file names."""
        return f"{self.number}-of-{self.of}"

    def has(self, sample: SampleId) -> bool:
        """Whether a sample belongs to it."""
        return sample.number % self.of == self.number


@dataclass(frozen=True)
class Evaluation:
    """Samples of problems, and where they are kept."""

    model: Path
    mode: Mode
    problems: Sequence[Problem]
    samples: int
    folder: Path
    key: Json  # all that decides an answer

    @classmethod
    def of(
        cls,
        workspace: Workspace,
        name: str,
        model: Path,
        mode: Mode,
        problems: Sequence[Problem],
        sampling: Sampling,
        engine: Engine,
    ) -> "Evaluation":
        """The evaluation of a model; `name` (`7b-cot`) begins its folder's, for people."""
        key = _key(model, mode, sampling, engine)
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        folder = workspace.evaluations / f"{name}-{digest[:12]}"
        return cls(model, mode, problems, sampling.samples, folder, key)

    def begin(self) -> None:
        """Make the folder, and write down there what decides its answers."""
        path = self.folder / "evaluation.json"
        if not path.exists():
            write_json(path, self.key)

    def wanted(self) -> Iterator[SampleId]:
        """All its samples: the first of each problem, then the second of each."""
        ids = dict.fromkeys(problem.id for problem in self.problems)
        return (SampleId(problem, number) for number in range(self.samples) for problem in ids)

    def kept(self) -> Mapping[SampleId, Kept]:
        """The answers that are there, without their texts."""
        return {sample.id: Kept.of(sample.answer) for sample in samples.read(self.folder)}


def _key(model: Path, mode: Mode, sampling: Sampling, engine: Engine) -> Json:
    """What decides an answer. How many samples are drawn decides none of them."""
    drawn = {name: value for name, value in asdict(sampling).items() if name != "samples"}
    return {"model": identity(model), **mode.identity, **drawn, "engine": asdict(engine)}


def identity(folder: Path) -> str:
    """Hex digest of all files of a model that a server may read.

    A file is hashed where no manifest knows it, or where it was written to since.
    """
    origin = manifest.read(folder)
    listed = origin["files"] if origin else {}
    marked = manifest_of(folder).stat().st_mtime_ns if origin else 0
    found = []
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.name.startswith(".") or path.name in ("manifest.json", "README.md"):
            continue
        info, entry = path.stat(), listed.get(path.name)
        known = entry and entry["size"] == info.st_size and info.st_mtime_ns <= marked
        found.append([path.name, entry["sha256"] if known else sha256(path)])
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def prove(folder: Path, run: recipe.Run, when: str) -> None:
    """An OmrError for a model folder that a server would load otherwise than it was made, or not at all."""
    if when == "after":
        made = manifest.read(folder)
        if made and (file := manifest.changed_file(folder, made)):
            raise OmrError(
                f"{file}: is not the file that {folder / 'manifest.json'} lists; bring it back, or run make"
                f" average {recipe.run_words(run)} FORCE=1"
            )
        passport.check(folder, run.model, "final")
        return
    if not (folder / passport.CONFIG).exists():
        raise OmrError(f"{folder}: there is no model; name a folder with config.json, tokenizer and weights")
    if not tokens.vocabulary(folder)[0]:
        raise OmrError(f"{folder}: its tokenizer has no tokens; name a whole model's folder")
    names = {tensor.name for shard in weights.shards(folder) for tensor in shard.tensors}
    layers = passport.read(folder)["shape"][2]
    for name in (EMBEDDING, f"model.layers.{layers - 1}."):
        if not any(tensor.startswith(name) for tensor in names):
            raise OmrError(
                f"{folder}: its weights lack {name.rstrip('.')}, which a server would fill with random"
                " numbers; name a whole model's folder"
            )
