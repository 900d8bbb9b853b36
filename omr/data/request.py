"""What the data stage is asked for, what it plans, whether its output is there already."""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from omr import files, manifest, recipe
from omr.data import corpus, mixing, prompts
from omr.data.by_recipe import local
from omr.data.corpus import PlannedShard
from omr.data.held_out import choice, lines
from omr.data.held_out.choice import HeldOut
from omr.data.prompts import TokenizerSource
from omr.data.quality import lists
from omr.errors import RequestError, choose, listing
from omr.files import Json
from omr.settings import pins
from omr.workspace import Workspace, manifest_of

BEARABLE = 0.01  # share of malformed rows that BAD_ROWS=skip leaves out; more is no accident
PLAN = 2  # form of plan.json
FORMAT = 1  # of the lines' bytes and of the mix; a new number makes every file anew


@dataclass(frozen=True)
class DataRequest:
    """One SFT file of a corpus, as the user's words ask for it (see `request`)."""

    workspace: Workspace
    corpus: recipe.Corpus
    round: recipe.Round
    modes: tuple[str, ...]  # splits, in the recipe's order
    seed: int
    limit: int | None  # at most so many raw rows of each split
    name: str | None  # sets apart what differs from the recipe
    raw: Path | None  # folder of the corpus's parquet; None: the workspace's, which is brought
    tokenizer: Path | None  # folder; None: the published one of the prompts
    length_tokenizer: Path | None  # folder; None: the published one of the length filter
    skip: bool  # leave malformed rows out instead of stopping
    allow_rows: bool  # ALLOW=rows: other rows than the published ones are meant
    means: mixing.Means
    dropped: lists.Rows | None = None  # DROP: rows that are left out
    held_out: HeldOut | None = None  # VALIDATION: problems whose rows are no part of it

    @property
    def output(self) -> Path:
        """The SFT file."""
        return self.workspace.data(self.corpus.name, self.round.key, self.modes, self.name)

    @property
    def work(self) -> Path:
        """Scratch, gone when the output is there."""
        return self.output.with_name(f".{self.output.stem}.work")

    @property
    def folder(self) -> Path:
        """Where the parquet is."""
        return self.raw or self.workspace.raw(self.corpus.name)

    @property
    def remedy(self) -> str:
        """What brings a whole copy of a file of the corpus."""
        if self.raw:
            return corpus.ANEW
        return (
            "remove it: make data brings it anew" if self.corpus.source else "FORCE=1 writes the corpus anew"
        )

    def unlike_published(self, counts: dict[str, int]) -> dict[str, dict[str, int]]:
        """The splits that have not the published count of rows; none under a LIMIT, which asks for less."""
        known = self.corpus.rows
        pairs = {} if self.limit else {s: (n, known[s]) for s, n in counts.items() if s in known}
        return {s: {"rows": n, "published": known} for s, (n, known) in pairs.items() if n != known}

    def refuse_other_rows(self, counts: dict[str, int]) -> None:
        """A RequestError where the splits' counts of rows are not the published ones, without ALLOW=rows."""
        if (other := self.unlike_published(counts)) and not self.allow_rows:
            said = [
                f"{s} has {n['rows']:,} rows, not the published {n['published']:,}" for s, n in other.items()
            ]
            raise RequestError(
                f"{self.folder}: {listing(said, 'and')}; {self.remedy}, or ALLOW=rows takes these"
            )

    @property
    def counts_tokens(self) -> bool:
        """Whether the round's filter needs the length tokenizer."""
        return any(self.corpus.min_tokens(split) and split in self.round.filtered for split in self.modes)

    @property
    def tokenizers(self) -> "dict[str, TokenizerSource]":
        """The tokenizers that the request needs: `prompt`, and `length` where a filter counts tokens."""
        words = {"prompt": ("TOKENIZER", self.tokenizer, self.corpus.prompt_tokenizer)}
        if self.counts_tokens:
            words["length"] = ("LENGTH_TOKENIZER", self.length_tokenizer, self.corpus.length_tokenizer)
        found = {}
        for word, (setting, folder, pin) in words.items():
            if isinstance(pin, Path) and not folder:
                found[word] = TokenizerSource(setting, pin, None)
            elif pin and not folder:
                home = self.workspace.tokenizer(pin.repo)
                found[word] = TokenizerSource(setting, home, pin)
            else:
                found[word] = TokenizerSource(setting, folder, None)
        return found

    @property
    def rejects(self) -> Path:
        """The list of malformed rows that were left out."""
        return self.output.with_suffix(".rejected.jsonl")


@dataclass(frozen=True)
class Plan:
    """What is found out once, before any shard is formatted; plan.json in the work folder."""

    identity: dict[str, object]  # what it was made from: another request, or a changed file, makes another
    tokenizers: dict[str, str]  # `prompt`, `length` -> the digest of its files
    prompts: dict[str, prompts.Compiled]  # of each split
    buckets: int
    shards: list[PlannedShard]

    @property
    def names(self) -> list[str]:
        """The shards' names, in the published order."""
        return [shard.name for shard in self.shards]

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each split."""
        splits = dict.fromkeys(shard.split for shard in self.shards)
        return {split: sum(s.rows for s in self.shards if s.split == split) for split in splits}

    @property
    def left_out(self) -> dict[str, list[str]]:
        """The columns that are no part of a row, and the shards that have them."""
        columns = dict.fromkeys(column for shard in self.shards for column in shard.left_out)
        return {column: [s.name for s in self.shards if column in s.left_out] for column in columns}

    @property
    def bearable(self) -> int:
        """So many malformed rows BAD_ROWS=skip leaves out."""
        return max(10, int(BEARABLE * sum(shard.take for shard in self.shards)))

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        compiled = {split: asdict(value) for split, value in self.prompts.items()}
        shards = [shard.as_json() for shard in self.shards]
        files.write_json(path, vars(self) | {"prompts": compiled, "shards": shards})

    @staticmethod
    def read(path: Path, identity: dict[str, object]) -> "Plan | None":
        """The plan that `write` left there, if it was made from the same `identity`."""
        if not path.exists() or (value := files.read_json(path))["identity"] != identity:
            return None
        compiled = {split: prompts.Compiled.of(given) for split, given in value["prompts"].items()}
        shards = [PlannedShard.of(given) for given in value["shards"]]
        return Plan(**value | {"prompts": compiled, "shards": shards})


def request(
    workspace: Workspace,
    *,
    dataset: str,
    round: str = "1",
    variant: str | None = None,
    modes: str | None = None,
    seed: int = 0,
    limit: int | None = None,
    name: str | None = None,
    raw: str | None = None,
    tokenizer: str | None = None,
    length_tokenizer: str | None = None,
    bad_rows: str = "stop",
    allow: str | None = None,
    drop: str | None = None,
    validation: str | None = None,
    workers: int | None = None,
    memory: str | None = None,
) -> DataRequest:
    """Check the user's words together; a RequestError for what cannot work.

    Nothing is read but the names of folders. Each word means what the setting of its name does
    (omr/settings/table.py); one that a caller leaves out has the setting's default.
    """
    row = recipe.corpus(dataset)
    round_ = recipe.round_(round, variant, row.name)
    changing = {"SEED": seed, "LIMIT": limit, "DROP": drop, "VALIDATION": validation}
    if (word := next((f"{key}={value}" for key, value in changing.items() if value), None)) and not name:
        raise RequestError(f"{word} makes another file than the recipe's; add NAME=… to set it apart")
    skip = choose("BAD_ROWS", bad_rows, ("stop", "skip")) == "skip"
    allow_rows = allow is not None and choose("ALLOW", allow, ("rows",)) == "rows"
    # The tiny corpus brings its own tokenizer: what .env says of the real ones is not meant for it.
    folders = {
        "raw": _folder("RAW", raw),
        "tokenizer": _folder("TOKENIZER", tokenizer if row.prompt_tokenizer else None),
        "length_tokenizer": _folder("LENGTH_TOKENIZER", length_tokenizer if row.length_tokenizer else None),
    }
    splits = recipe.modes(modes, row.name)
    means = mixing.means(workers, memory)
    mixing.need_shuf()
    words = {"skip": skip, "allow_rows": allow_rows, "means": means}
    dropped = lists.read(Path(drop).expanduser().absolute()) if drop else None
    words |= {"dropped": dropped, "held_out": choice.of(row, validation) if validation else None}
    return DataRequest(workspace, row, round_, splits, seed, limit, name, **folders, **words)


def _folder(setting: str, value: str | None) -> Path | None:
    """A folder that the user names; a RequestError where there is none."""
    path = Path(value).expanduser().absolute() if value else None
    if path and not path.is_dir():
        raise RequestError(f"{setting}={value}: no such folder; name one that is there, or unset {setting}")
    return path


def inputs(request: DataRequest, found: dict[str, Json], tokenizers: dict[str, str]) -> Json:
    """What decides the output's bytes, from the shards' facts and the tokenizers' identities."""
    row, held_out = request.corpus, request.held_out
    digest = _digest({name: facts["sha256"] for name, facts in found.items()})
    value = {
        "corpus": row.name,
        "raw": digest,
        "round": request.round.key,
        "filter": [asdict(each) for each in row.filters] if request.round.filtered else None,
        "modes": request.modes,
        "columns": asdict(row.columns),
        "prompts": {split: asdict(row.prompts[split]) for split in request.modes},
        "prompt_files": prompts.digest(row, request.modes),
        **({"chat": asdict(row.chat)} if row.chat.own else {}),
        "nemo_skills": None if row.prompt_folder else pins()["NEMO_SKILLS_COMMIT"],
        "tokenizers": tokenizers,
        "seed": request.seed,
        "limit": request.limit,
        "bad_rows": "skip" if request.skip else "stop",
        "format": FORMAT,
        **({"drop": request.dropped.sha256} if request.dropped else {}),
        **({"validation": choice.inputs(row, held_out, request.modes)} if held_out else {}),
    }
    return json.loads(json.dumps(value))  # as the manifest will give it back: tuples are lists


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def finished(request: DataRequest, force: bool = False) -> Json | None:
    """The manifest of an output that is there; None if there is work to do.

    Changed inputs are a RequestError that names them. Raw files and tokenizers that were removed since,
    to save space, count as unchanged; a raw file is read again only if its size or time changed.
    """
    made = None if force else manifest.read(request.output)
    if made is None:
        return None
    if request.raw is None and request.corpus.files and not local.made(request.corpus, request.folder):
        raise RequestError(
            f"{request.output}: was made from other files than are now there; FORCE=1 makes it anew"
        )
    known = made["shards"]
    if request.raw and any(path.suffix == ".parquet" for path in corpus.below(request.raw)):
        found = corpus.shards(request.raw, request.modes, bool(request.limit), request.remedy)
        if request.limit:  # shards beyond the limit decide nothing
            found = [shard for shard in found if shard.name in known]
        known = corpus.hashes(found, known)
    elif request.raw is None:
        there = [
            (split, path) for split in request.modes for path in corpus.listed(request.folder, split).values()
        ]
        found = [corpus.Shard.at(split, path) for split, path in there if path.name in known]
        known = known | corpus.hashes(found, known)
    identities = made["inputs"]["tokenizers"] | {
        word: prompts.identity(source.folder)
        for word, source in request.tokenizers.items()
        if source.folder and source.folder.exists()
    }
    made = manifest.finished(request.output, inputs(request, known, identities))
    lines.check(request.output)
    request.refuse_other_rows({split: facts["read"] for split, facts in made["splits"].items()})
    if any(known[name]["mtime_ns"] != facts["mtime_ns"] for name, facts in made["shards"].items()):
        # The same bytes at another time: not to be read again the next time.
        made["shards"] = {name: made["shards"][name] | known[name] for name in made["shards"]}
        files.write_json(manifest_of(request.output), made)
    shutil.rmtree(request.work, ignore_errors=True)  # a FORCE=1 that was killed
    return made
