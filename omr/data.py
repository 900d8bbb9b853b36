"""The data stage: what is asked for, whether it is there, and making it."""

import hashlib
import importlib.util
import json
import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from pathlib import Path

from omr import files, manifest, mix, planning, prompts, raw, recipe, shards, tiny
from omr.buckets import Torn, done, how_many, undo
from omr.errors import OmrError, RequestError
from omr.settings import pins
from omr.shuffle import PART
from omr.workspace import Workspace, manifest_of

FORMAT = 1  # of the lines' bytes and of the mix; a new number makes every file anew
TOKENIZER_FILES = (
    "tokenizer*",
    "*vocab*",
    "merges.txt",
    "chat_template*",
    "special_tokens_map.json",
    "added_*",
)
SCRATCH = {"zstd": 1.6, "none": 2.1}  # bytes of disk for a byte of text: the lines by bucket and the mixed file
PACKAGES = (
    "pyarrow",
    "numpy",
    "tokenizers",
    "transformers",
    "fastokens-b10",
    "nemo-skills",
    "huggingface_hub",
)
Download = Callable[..., dict[str, dict]]


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
    means: mix.Means

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


def request(workspace: Workspace, words: dict) -> Request:
    """Check the words together; a RequestError for what cannot work. Nothing is read but folders' names."""
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
    means = mix.means(words["workers"], words["memory"])
    mix.need_shuf()
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
    """What decides the output's bytes, for its manifest. `found`: the shards' facts; `tokenizers`: identities."""
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
    there = {word: folder for word, folder in _tokenizer_folders(asked).items() if folder and folder.exists()}
    identities = made["inputs"]["tokenizers"] | {word: _identity(folder) for word, folder in there.items()}
    made = manifest.finished(asked.output, inputs(asked, known, identities))
    shutil.rmtree(asked.work, ignore_errors=True)  # a FORCE=1 that was killed
    return made


def _tokenizer_folders(asked: Request) -> dict[str, Path | None]:
    """Where each tokenizer that the request needs is, or would be downloaded to; None: the tiny one."""
    pins_ = {"prompt": (asked.tokenizer, asked.corpus.prompt_tokenizer)}
    if asked.counts_tokens:
        pins_["length"] = (asked.length_tokenizer, asked.corpus.length_tokenizer)
    home = asked.workspace.raw("tokenizers")
    return {
        w: folder or (home / pin.repo.split("/")[-1] if pin else None) for w, (folder, pin) in pins_.items()
    }


def _pins(asked: Request) -> dict[str, recipe.Pin]:
    """The published tokenizers that the request uses; one that a folder replaces is not of them."""
    wanted = {"prompt": (asked.tokenizer, asked.corpus.prompt_tokenizer)}
    if asked.counts_tokens:
        wanted["length"] = (asked.length_tokenizer, asked.corpus.length_tokenizer)
    return {word: pin for word, (folder, pin) in wanted.items() if pin and not folder}


def _identity(folder: Path) -> str:
    """What a folder's tokenizer is, whoever brought it there."""
    names = sorted({path.name for pattern in TOKENIZER_FILES for path in folder.glob(pattern)})
    if "tokenizer_config.json" not in names:
        raise RequestError(f"{folder}: has no tokenizer_config.json; name a folder with a whole tokenizer")
    return _digest({name: files.sha256(folder / name) for name in names})


def make(asked: Request, download: Download, force: bool = False) -> dict:
    """Make the output, or go on where an earlier run stopped; returns its manifest. `download` is omr.hub's."""
    _need_prompts(asked)
    with files.lock(asked.output.with_name(f".{asked.output.stem}.lock"), str(asked.output)):
        if made := finished(asked, force):
            return made
        bring(asked, download, force)
        with mix.crew(asked.means) as pool:
            plan, hashes = prepare(asked, pool)
            format_part(asked, plan, pool, hashes)
            return finish(asked, plan, pool)


def _need_prompts(asked: Request) -> None:
    """Said before the first byte is downloaded."""
    if asked.corpus.name != "tiny" and importlib.util.find_spec("nemo_skills") is None:
        raise RequestError(prompts.missing())


def prepare(asked: Request, pool: Executor) -> tuple[dict, dict[str, str]]:
    """Compile the prompts and plan the work; returns the plan, and hashes of shards that were found meanwhile.

    An earlier plan of the same inputs stays, with all that was done under it; another one is thrown away.
    """
    folders = _tokenizer_folders(asked)
    identities = {word: _identity(folder) for word, folder in folders.items() if folder}
    found = raw.shards(asked.folder, asked.modes, partial=bool(asked.limit))
    identity = {
        **inputs(asked, {}, identities),
        "raw": [[shard.name, shard.size, shard.mtime_ns] for shard in found],
    }
    path = asked.work / "plan.json"
    if path.exists() and planning.holds(plan := files.read_json(path), identity):
        return plan, {}
    shutil.rmtree(asked.work, ignore_errors=True)
    asked.work.mkdir(parents=True)
    survey = (planning.survey, asked.corpus, found, folders, asked.work, asked.skip)
    (compiled, footers), hashes = mix.meanwhile(pool, found, *survey)
    plan = {
        "identity": identity,
        "boot": files.boot(),
        "tokenizers": identities,
        "prompts": compiled,
        "shards": planning.shares(found, footers, asked.limit),
    }
    raw_bytes = sum(entry["bytes"] * entry["take"] / max(1, entry["rows"]) for entry in plan["shards"])
    plan["buckets"] = how_many(int(raw_bytes))
    plan["codec"] = mix.codec(int(raw_bytes))
    files.need_space(asked.work, int(raw_bytes * SCRATCH[plan["codec"]]), f"mixing {asked.output.name}")
    files.write_json(path, plan)
    return plan, hashes


def bring(asked: Request, download: Download, force: bool) -> None:
    """Raw files and tokenizers, where nobody has named a folder of them."""
    corpus = asked.corpus
    if asked.raw is None and corpus.source is None:
        if force or not asked.folder.exists():
            with files.building(asked.folder) as aside:
                mix.in_child(tiny.write_corpus, aside, 0)
    elif asked.raw is None:
        wanted = tuple(pattern for split in asked.modes for pattern in raw.patterns(split))
        if asked.limit:
            _bring_some(asked, download)
        else:
            download(corpus.source, "dataset", wanted, asked.folder, advice="set RAW= to a local copy")
    for word, folder in _tokenizer_folders(asked).items():
        pin = corpus.prompt_tokenizer if word == "prompt" else corpus.length_tokenizer
        given = asked.tokenizer if word == "prompt" else asked.length_tokenizer
        if folder and not given:
            setting = "TOKENIZER" if word == "prompt" else "LENGTH_TOKENIZER"
            download(pin, "model", TOKENIZER_FILES, folder, advice=f"set {setting}= to a local copy")


def _bring_some(asked: Request, download: Download) -> None:
    """As many shards of each split as LIMIT needs."""
    for split in asked.modes:
        have, count = 0, 0
        while have < asked.limit:
            count += 1
            got = download(
                asked.corpus.source,
                "dataset",
                raw.patterns(split),
                asked.folder,
                choose=lambda listed, n=count: listed[:n],
            )
            if len(got) < count:
                break
            have = sum(mix.in_child(planning.row_counts, [asked.folder / name for name in got]))


def format_part(
    asked: Request, plan: dict, pool: Executor, hashes: dict[str, str], part: int = 0, parts: int = 1
) -> None:
    """Format the shards of one part of `parts`; the parts may run on several machines at once."""
    todo = [(_shard(entry), entry["take"]) for entry in plan["shards"]][part::parts]
    most = max(10, sum(entry["take"] for entry in plan["shards"]) // 100)
    mix.format_shards(pool, _job(asked, plan), todo, hashes, lambda bad: _bearable(asked, bad, most))


def _job(asked: Request, plan: dict) -> shards.Job:
    compiled = {split: prompts.Compiled.of(value) for split, value in plan["prompts"].items()}
    folders = _tokenizer_folders(asked)
    return shards.Job(
        corpus=asked.corpus,
        round=asked.round,
        seed=asked.seed,
        buckets=plan["buckets"],
        room=asked.means.room,
        codec=plan["codec"],
        work=asked.work,
        skip=asked.skip,
        compiled=compiled,
        tokenizer=asked.work / planning.LENGTH if asked.counts_tokens else None,
        slow=folders["prompt"],
    )


def _bearable(asked: Request, bad: int, most: int) -> None:
    if bad > most:
        raise OmrError(f"{asked.folder}: {bad:,} rows are malformed, more than 1%; look at the corpus first")


def _shard(entry: dict) -> raw.Shard:
    return raw.Shard(entry["split"], Path(entry["path"]), entry["size"], entry["mtime_ns"])


def finish(asked: Request, plan: dict, pool: Executor) -> dict:
    """Mix what all parts formatted (a part that is missing or torn is formatted first) and write it down."""
    made = asked.work / "made.json"
    while not made.exists():
        format_part(asked, plan, pool, {})
        names = [entry["name"] for entry in plan["shards"]]
        try:
            files.write_json(made, mix.mix(pool, _job(asked, plan), names, asked.means))
        except Torn as torn:
            undo(asked.work, str(torn))
    facts = files.read_json(made)
    manifest_of(asked.output).unlink(missing_ok=True)  # of an older output that is replaced now
    part = asked.work / PART
    if part.exists():
        part.replace(asked.output)
        files.sync(asked.output.parent)
    _write(asked, plan, facts)
    shutil.rmtree(asked.work)
    return manifest.read(asked.output)


def _write(asked: Request, plan: dict, facts: dict) -> None:
    """The manifest, last, and the list of rejects before it."""
    results = {entry["name"]: done(asked.work, entry["name"]) for entry in plan["shards"]}
    splits: dict[str, dict] = {}
    for entry in plan["shards"]:
        result = results[entry["name"]]
        split = splits.setdefault(
            entry["split"], {"read": 0, "kept": 0, "dropped": {}, "rejected": {}, "two_digits": 0}
        )
        for key in ("read", "kept", "two_digits"):
            split[key] += result[key]
        rejected = Counter()
        for reject in result["rejected"]:
            rejected[reject["reason"]] += reject["rows"]
        for key, counts in (("dropped", result["dropped"]), ("rejected", rejected)):
            split[key] = dict(sorted((Counter(split[key]) + Counter(counts)).items()))
    lines = [
        json.dumps(reject, ensure_ascii=False) for result in results.values() for reject in result["rejected"]
    ]
    if lines:
        files.write_text(asked.rejects, "\n".join([*lines, ""]))
    else:
        asked.rejects.unlink(missing_ok=True)
    known = {
        entry["name"]: {
            **{k: entry[k] for k in ("size", "mtime_ns", "rows")},
            "sha256": results[entry["name"]]["sha256"],
        }
        for entry in plan["shards"]
    }
    source = asked.corpus.source
    manifest.write(
        asked.output,
        inputs(asked, known, plan["tokenizers"]),
        **facts,
        splits=splits,
        source=str(asked.raw)
        if asked.raw
        else f"{source.repo}@{source.revision}"
        if source
        else "omr/tiny.py",
        shards=known,
        prompts=plan["prompts"],
        buckets=plan["buckets"],
        tokenizers={w: f"{p.repo}@{p.revision}" for w, p in _pins(asked).items()},
        versions=manifest.versions(*PACKAGES) | {"shuf": mix.shuf_version()},
    )


def describe(asked: Request, command: Callable[..., str]) -> list[str]:
    """What `make` would do; `command` is omr.hub's."""
    lines = []
    if asked.raw is None and asked.corpus.source:
        wanted = tuple(pattern for split in asked.modes for pattern in raw.patterns(split))
        lines.append(command(asked.corpus.source, "dataset", wanted, asked.folder))
    elif asked.raw is None:
        lines.append(f"# omr/tiny.py writes {asked.folder}")
    for word, pin in _pins(asked).items():
        lines.append(command(pin, "model", TOKENIZER_FILES, _tokenizer_folders(asked)[word]))
    kept = f"filtered: {', '.join(asked.round.filtered)}" if asked.round.filtered else "every row"
    lines.append(f"# {', '.join(asked.modes)} of {asked.folder} ({kept}) -> {asked.output}")
    lines.append(
        f"# seed {asked.seed}, {asked.means.workers} workers, {files.human(asked.means.memory)} of memory"
    )
    return lines


def summary(path: Path, made: dict) -> str:
    """A manifest in one line: rows, bytes, what each split gave."""
    parts = [f"{split} {s['kept']:,} of {s['read']:,}" for split, s in made["splits"].items()]
    rejected = sum(sum(s["rejected"].values()) for s in made["splits"].values())
    if rejected:
        parts.append(f"{rejected:,} malformed left out")
    return f"{path}: {made['rows']:,} rows, {files.human(made['size'])} ({', '.join(parts)}), sha256 {made['sha256'][:12]}…"
