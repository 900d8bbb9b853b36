"""The data stage's questions: what is asked for, whether it is there already, what would be done."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from omr import files, manifest, recipe
from omr.data import corpus as raw
from omr.data import mixing
from omr.errors import RequestError
from omr.settings import pins
from omr.workspace import Workspace, manifest_of

FORMAT = 1  # of the lines' bytes and of the mix; a new number makes every file anew
TOKENIZER_FILES = (
    *("tokenizer*", "*vocab*", "merges.txt"),
    *("chat_template*", "special_tokens_map.json", "added_tokens.json"),
)


@dataclass(frozen=True)
class Request:
    """What the user's words ask for."""

    workspace: Workspace
    corpus: recipe.Corpus
    round: recipe.Round
    modes: tuple[str, ...]
    seed: int
    limit: int | None  # at most so many raw rows of each split
    name: str | None
    raw: Path | None  # RAW=
    tokenizer: Path | None  # TOKENIZER=
    length_tokenizer: Path | None  # LENGTH_TOKENIZER=
    skip: bool  # BAD_ROWS=skip
    means: mixing.Means

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
    def counts_tokens(self) -> bool:
        """Whether the round's filter needs the length tokenizer."""
        return any(split != "genselect" and split in self.round.filtered for split in self.modes)

    @property
    def rejects(self) -> Path:
        """The list of malformed rows that were left out."""
        return self.output.with_suffix(".rejected.jsonl")


UNSAID = ("raw", "tokenizer", "length_tokenizer", "limit", "workers", "memory", "modes", "name", "variant")


def request(workspace: Workspace, words: dict) -> Request:
    """Check the words together; a RequestError for what cannot work. Nothing is read but folders' names.

    A word that only making the file needs may be left out by who asks about one that is there.
    """
    words = dict.fromkeys(UNSAID) | {"round": "1", "seed": 0, "bad_rows": "stop"} | words
    corpus = recipe.corpus(words["dataset"])
    round_ = recipe.round_(words["round"], words["variant"])
    name, seed, limit = words["name"], words["seed"], words["limit"]
    if (seed or limit) and not name:
        word = f"SEED={seed}" if seed else f"LIMIT={limit}"
        raise RequestError(f"{word} makes another file than the recipe's; add NAME=… to set it apart")
    if words["bad_rows"] not in ("stop", "skip"):
        raise RequestError(f"BAD_ROWS={words['bad_rows']} is unknown; choose stop or skip")
    # The tiny corpus brings its own tokenizer: what .env says of the real ones is not meant for it.
    needed = {"raw": True, "tokenizer": corpus.prompt_tokenizer, "length_tokenizer": corpus.length_tokenizer}
    folders = {}
    for word, applies in needed.items():
        folders[word] = Path(words[word]).expanduser().absolute() if words[word] and applies else None
        if folders[word] and not folders[word].is_dir():
            raise RequestError(f"{word.upper()}={words[word]}: no such folder")
    modes = recipe.modes(words["modes"])
    means = mixing.means(words["workers"], words["memory"])
    mixing.need_shuf()
    return Request(
        workspace,
        corpus,
        round_,
        modes,
        seed,
        limit,
        name,
        **folders,
        skip=words["bad_rows"] == "skip",
        means=means,
    )


def inputs(asked: Request, found: dict[str, dict], tokenizers: dict[str, str]) -> dict:
    """What decides the output's bytes, from the shards' facts and the tokenizers' identities."""
    corpus = asked.corpus
    digest = _digest({name: facts["sha256"] for name, facts in found.items()})
    rule = {
        "sources": corpus.olympiad_sources,
        "pass rate": corpus.max_pass_rate,
        "tokens": corpus.min_tokens,
    }
    value = {
        "corpus": corpus.name,
        "raw": digest,
        "round": asked.round.key,
        "filter": rule if asked.round.filtered else None,
        "modes": asked.modes,
        "prompts": {split: asdict(corpus.prompts[split]) for split in asked.modes},
        "nemo_skills": None if corpus.name == "tiny" else pins()["NEMO_SKILLS_COMMIT"],
        "tokenizers": tokenizers,
        "seed": asked.seed,
        "limit": asked.limit,
        "bad_rows": "skip" if asked.skip else "stop",
        "format": FORMAT,
    }
    return json.loads(json.dumps(value))  # as the manifest will give it back: tuples are lists


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def finished(asked: Request, force: bool = False) -> dict | None:
    """The manifest of an output that is there; None if there is work to do.

    Changed inputs are a RequestError that names them. Raw files and tokenizers that were removed since,
    to save space, count as unchanged; a raw file is read again only if its size or time changed.
    """
    made = None if force else manifest.read(asked.output)
    if made is None:
        return None
    known = made["shards"]
    if asked.folder.exists() and any(asked.folder.rglob("*.parquet")):
        found = raw.shards(asked.folder, asked.modes, partial=bool(asked.limit))
        if asked.limit:  # shards beyond the limit decide nothing
            found = [shard for shard in found if shard.name in known]
        known = raw.hashes(found, known)
    there = {word: folder for word, folder in tokenizer_folders(asked).items() if folder and folder.exists()}
    identities = made["inputs"]["tokenizers"] | {word: identity(folder) for word, folder in there.items()}
    made = manifest.finished(asked.output, inputs(asked, known, identities))
    if any(known[name]["mtime_ns"] != facts["mtime_ns"] for name, facts in made["shards"].items()):
        # The same bytes at another time: not to be read again the next time.
        made["shards"] = {name: made["shards"][name] | known[name] for name in made["shards"]}
        files.write_json(manifest_of(asked.output), made)
    shutil.rmtree(asked.work, ignore_errors=True)  # a FORCE=1 that was killed
    return made


def tokenizer_folders(asked: Request) -> dict[str, Path | None]:
    """Where each tokenizer that the request needs is, or would be downloaded to; None: the tiny one."""
    pins_ = {"prompt": (asked.tokenizer, asked.corpus.prompt_tokenizer)}
    if asked.counts_tokens:
        pins_["length"] = (asked.length_tokenizer, asked.corpus.length_tokenizer)
    home = asked.workspace.raw("tokenizers")
    return {
        w: folder or (home / pin.repo.split("/")[-1] if pin else None) for w, (folder, pin) in pins_.items()
    }


def published_tokenizers(asked: Request) -> dict[str, recipe.Pin]:
    """The published tokenizers that the request uses; one that a folder replaces is not of them."""
    wanted = {"prompt": (asked.tokenizer, asked.corpus.prompt_tokenizer)}
    if asked.counts_tokens:
        wanted["length"] = (asked.length_tokenizer, asked.corpus.length_tokenizer)
    return {word: pin for word, (folder, pin) in wanted.items() if pin and not folder}


def identity(folder: Path) -> str:
    """What a folder's tokenizer is, whoever brought it there."""
    names = sorted({path.name for pattern in TOKENIZER_FILES for path in folder.glob(pattern)})
    if "tokenizer_config.json" not in names:
        raise RequestError(f"{folder}: has no tokenizer_config.json; name a folder with a whole tokenizer")
    return _digest({name: files.sha256(folder / name) for name in names})


def describe(asked: Request, command: Callable[..., str]) -> list[str]:
    """What `make` would do; `command` is omr.hub's."""
    lines = []
    if asked.raw is None and asked.corpus.source:
        wanted = tuple(pattern for split in asked.modes for pattern in raw.patterns(split))
        lines.append(command(asked.corpus.source, "dataset", wanted, asked.folder))
    elif asked.raw is None:
        lines.append(f"# omr/tiny/corpus.py writes {asked.folder}")
    for word, pin in published_tokenizers(asked).items():
        lines.append(command(pin, "model", TOKENIZER_FILES, tokenizer_folders(asked)[word]))
    kept = f"filtered: {', '.join(asked.round.filtered)}" if asked.round.filtered else "every row"
    lines.append(f"# {', '.join(asked.modes)} of {asked.folder} ({kept}) -> {asked.output}")
    means = asked.means
    lines.append(f"# seed {asked.seed}, {means.workers} workers, {files.human(means.memory)} of memory")
    return lines


def summary(path: Path, made: dict) -> str:
    """A manifest in one line: rows, bytes, what each split gave."""
    parts = [f"{split} {s['kept']:,} of {s['read']:,}" for split, s in made["splits"].items()]
    rejected = sum(sum(s["rejected"].values()) for s in made["splits"].values())
    if rejected:
        parts.append(f"{rejected:,} malformed left out")
    size, digest = files.human(made["size"]), made["sha256"][:12]
    return f"{path}: {made['rows']:,} rows, {size} ({', '.join(parts)}), sha256 {digest}…"
