"""The data stage's work: bring, plan, format, mix, write down; it goes on wherever it was killed."""

import contextlib
import fcntl
import importlib.util
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path

from omr import files, manifest
from omr.data import corpus as raw
from omr.data import formatting, mixing, planning, process_pool, prompts, scratch, shuffle
from omr.data.request import (
    TOKENIZER_FILES,
    Request,
    finished,
    identity,
    inputs,
    published_tokenizers,
    tokenizer_folders,
)
from omr.errors import OmrError, RequestError
from omr.tiny import corpus as tiny
from omr.workspace import manifest_of

SCRATCH = {
    "zstd": 1.2,
    "none": 1.3,
    "cached": 1.3,
}  # bytes of disk for a byte of text: the lines go as the mixed file grows
PACKAGES = (
    "pyarrow",
    "numpy",
    "tokenizers",
    "transformers",
    "fastokens-b10",
    "nemo-skills",
    "huggingface_hub",
)
BEARABLE = 0.01  # share of malformed rows that BAD_ROWS=skip leaves out; more is no accident
Download = Callable[..., dict[str, dict]]


def make(asked: Request, download: Download, force: bool = False) -> dict:
    """Make the output, or go on where a run stopped; returns its manifest. `download` is omr.hub's."""
    _need_prompts(asked)
    with files.lock(asked.output.with_name(f".{asked.output.stem}.lock"), str(asked.output)):
        if made := finished(asked, force):
            return made
        with process_pool.crew(asked.means.workers) as pool:
            with _planning(asked):
                bring(asked, download, force)
                plan, hashes = prepare(asked, pool)
            format_part(asked, plan, pool, hashes)
        return finish(asked, plan)


def part(asked: Request, download: Download, word: str, force: bool = False) -> None:
    """One job of many on several machines: `plan`, or `2/8`, the third of eight parts of the shards.

    Afterwards `make` mixes; the work folder is on a disk that all of them see.
    """
    number, _, parts = word.partition("/")
    if word != "plan" and not (number.isdigit() and parts.isdigit() and int(number) < int(parts)):
        raise RequestError(f"--part {word} is no part; use plan, or 0/8 to 7/8")
    if finished(asked, force):
        return
    _need_prompts(asked)
    with process_pool.crew(asked.means.workers) as pool:
        with _planning(asked):
            bring(asked, download, force and word == "plan")
            plan, hashes = prepare(asked, pool, alone=False)
        if word != "plan":
            with files.lock(asked.work / f".part-{number}-of-{parts}.lock", f"part {word} of {asked.output}"):
                format_part(asked, plan, pool, hashes, int(number), int(parts))


@contextlib.contextmanager
def _planning(asked: Request) -> Iterator[None]:
    """One at a time brings and plans; the others wait and find it done."""
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    with asked.output.with_name(f".{asked.output.stem}.plan.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _need_prompts(asked: Request) -> None:
    """Said before the first byte is downloaded."""
    if asked.corpus.name != "tiny" and importlib.util.find_spec("nemo_skills") is None:
        raise RequestError(prompts.missing())


def prepare(asked: Request, pool: Executor, alone: bool = True) -> tuple[dict, dict[str, str]]:
    """Compile the prompts and plan the work; returns the plan, and hashes of shards found meanwhile.

    An earlier plan of the same inputs stays, with all that was done under it; another one is thrown away.
    Without `alone` other machines work under the plan, too.
    """
    folders = tokenizer_folders(asked)
    tokenizers = {word: identity(folder) for word, folder in folders.items() if folder}
    found = raw.shards(asked.folder, asked.modes, partial=bool(asked.limit))
    wanted = inputs(asked, {}, tokenizers)
    wanted["raw"] = [[str(shard.path), shard.size, shard.mtime_ns] for shard in found]
    path = asked.work / "plan.json"
    if path.exists() and planning.holds(plan := files.read_json(path), wanted, alone):
        return plan, {}
    shutil.rmtree(asked.work, ignore_errors=True)
    asked.work.mkdir(parents=True)
    survey = (planning.survey, asked.corpus, found, folders, asked.work, asked.skip)
    (compiled, footers), hashes = process_pool.meanwhile(pool, asked.means.workers, found, *survey)
    entries = planning.shares(found, footers, asked.limit)
    size = sum(entry["bytes"] * entry["take"] // max(1, entry["rows"]) for entry in entries)
    codec = mixing.codec(size, asked.work, asked.means.workers) if alone else "zstd"
    files.need_space(asked.work, int(size * SCRATCH[codec]), f"mixing {asked.output.name}")
    plan = {
        "identity": wanted,
        "boot": files.boot(),
        "tokenizers": tokenizers,
        "prompts": compiled,
        "buckets": scratch.how_many(size),
        "codec": codec,
        "shards": entries,
    }
    files.write_json(path, plan)
    return plan, hashes


def bring(asked: Request, download: Download, force: bool) -> None:
    """Raw files and tokenizers, where nobody has named a folder of them."""
    corpus = asked.corpus
    if asked.raw is None and corpus.source is None:
        if force or not asked.folder.exists():
            with files.building(asked.folder) as aside:
                process_pool.in_child(tiny.write_corpus, aside, 0)
    elif asked.raw is None:
        wanted = tuple(pattern for split in asked.modes for pattern in raw.patterns(split))
        if asked.limit:
            _bring_some(asked, download)
        else:
            download(corpus.source, "dataset", wanted, asked.folder, advice="set RAW= to a local copy")
    for word, folder in tokenizer_folders(asked).items():
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
            have = sum(process_pool.in_child(planning.row_counts, [asked.folder / name for name in got]))


def format_part(
    asked: Request, plan: dict, pool: Executor, hashes: dict[str, str], part: int = 0, parts: int = 1
) -> None:
    """Format the shards of one part of `parts`; the parts may run on several machines at once."""
    todo = [(_shard(entry), entry["take"]) for entry in plan["shards"]][part::parts]
    rows = sum(entry["take"] for entry in plan["shards"])
    mixing.format_shards(pool, _job(asked, plan), todo, hashes, lambda bad: _bearable(asked, bad, rows))


def _job(asked: Request, plan: dict) -> formatting.Job:
    compiled = {split: prompts.Compiled.of(value) for split, value in plan["prompts"].items()}
    folders = tokenizer_folders(asked)
    return formatting.Job(
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


def _bearable(asked: Request, bad: int, rows: int) -> None:
    if bad > max(10, BEARABLE * rows):
        raise OmrError(
            f"{asked.folder}: {bad:,} of {rows:,} rows are malformed so far; BAD_ROWS=skip leaves out"
            f" {BEARABLE:.0%} at most, bring a better copy of the corpus"
        )


def _shard(entry: dict) -> raw.Shard:
    return raw.Shard(entry["split"], Path(entry["path"]), entry["size"], entry["mtime_ns"])


def finish(asked: Request, plan: dict) -> dict:
    """Mix what all parts formatted (what is torn is formatted again) and write it down."""
    made, mixed = asked.work / "made.json", asked.work / shuffle.PART
    torn = Counter()
    while not (made.exists() and (mixed.exists() or asked.output.exists())):
        names = [entry["name"] for entry in plan["shards"]]
        try:
            facts = mixing.mix(_job(asked, plan), names, asked.means)
        except scratch.Torn as error:
            name = str(error)
            if torn[name]:
                raise OmrError(f"{asked.work}: the lines of {name} do not last; look at the disk") from None
            torn[name] += 1
            scratch.undo(asked.work, name)
            with process_pool.crew(asked.means.workers) as pool:
                format_part(asked, plan, pool, {})
            continue
        if not facts["rows"]:
            raise OmrError(f"{asked.folder}: no row is left for {asked.output.name}; look at its filter")
        manifest_of(asked.output).unlink(missing_ok=True)  # of an older output that is replaced now
        files.write_json(made, facts)
    if mixed.exists():
        mixed.replace(asked.output)
        files.sync(asked.output.parent)
    _write(asked, plan, files.read_json(made))
    shutil.rmtree(asked.work)
    return manifest.read(asked.output)


def _write(asked: Request, plan: dict, facts: dict) -> None:
    """The manifest, last, and the list of rejects before it."""
    results = {entry["name"]: scratch.done(asked.work, entry["name"]) for entry in plan["shards"]}
    rejects = [json.dumps(line, ensure_ascii=False) for r in results.values() for line in r["rejected"]]
    if rejects:
        files.write_text(asked.rejects, "\n".join([*rejects, ""]))
    else:
        asked.rejects.unlink(missing_ok=True)
    known = {
        entry["name"]: {key: entry[key] for key in ("size", "mtime_ns", "rows")}
        | {"sha256": results[entry["name"]]["sha256"]}
        for entry in plan["shards"]
    }
    published = asked.corpus.source
    manifest.write(
        asked.output,
        inputs(asked, known, plan["tokenizers"]),
        **facts,
        splits=_by_split(plan, results),
        source=str(
            asked.raw or (f"{published.repo}@{published.revision}" if published else "omr/tiny/corpus.py")
        ),
        shards=known,
        prompts=plan["prompts"],
        buckets=plan["buckets"],
        tokenizers={word: f"{pin.repo}@{pin.revision}" for word, pin in published_tokenizers(asked).items()},
        versions=manifest.versions(*PACKAGES) | {"shuf": mixing.shuf_version()},
    )


def _by_split(plan: dict, results: dict[str, dict]) -> dict[str, dict]:
    """Rows read and kept, dropped by the filter and rejected as malformed (each by reason), per split."""
    splits: dict[str, dict] = {}
    for entry in plan["shards"]:
        result = results[entry["name"]]
        split = splits.setdefault(
            entry["split"], dict(read=0, kept=0, dropped=Counter(), rejected=Counter(), two_digits=0)
        )
        for key in ("read", "kept", "two_digits"):
            split[key] += result[key]
        split["dropped"].update(result["dropped"])
        for reject in result["rejected"]:
            split["rejected"][reject["reason"]] += reject["rows"]
    for split in splits.values():
        for key in ("dropped", "rejected"):
            split[key] = {reason: count for reason, count in sorted(split[key].items()) if count}
    return splits
