"""Raw files and tokenizers into the workspace: downloaded, made, or read from a folder of one's own."""

import operator
import shutil
from collections.abc import Callable
from pathlib import Path

from omr import files
from omr.data import corpus, process_pool, prompts
from omr.data.by_recipe import local
from omr.data.request import DataRequest
from omr.recipe import Corpus
from omr.run import validation
from omr.tiny import corpus as tiny

MADE = "shards.json"  # in a folder of shards that were made here: the sha256 of each
Download = Callable[..., dict[str, files.Json]]  # omr.models.hub.download, or a test's


def bring(request: DataRequest, download: Download, force: bool) -> dict[str, str]:
    """Raw files and tokenizers, where nobody has named a folder of them.

    Returns the sha256 that each shard had when it came, by its name; none of a folder of the user's own.
    """
    row, source, brought = request.corpus, request.corpus.source, {}
    if request.raw is None and source is None:
        there = local.made(row, request.folder) if row.files else request.folder.exists()
        if force or not there:
            shutil.rmtree(request.folder, ignore_errors=True)
            with files.building(request.folder) as aside:
                process_pool.Child(_write_raw, aside, row).result()
        listed = request.folder / MADE
        brought = files.read_json(listed) if listed.exists() else {}
    elif request.raw is None:
        wanted = tuple(pattern for split in request.modes for pattern in corpus.patterns(split))
        if request.limit:
            got = _bring_some(request, download)
        else:
            got = download(source, "dataset", wanted, request.folder, advice="set RAW= to a local copy")
        brought = {Path(name).name: facts["sha256"] for name, facts in got.items()}
    for tokenizer in request.tokenizers.values():
        if tokenizer.pin:
            advice = f"set {tokenizer.setting}= to a local copy"
            download(tokenizer.pin, "model", prompts.TOKENIZER_FILES, tokenizer.folder, advice=advice)
    return brought


def _write_raw(folder: Path, row: Corpus) -> None:
    local.write(row, folder) if row.files else tiny.write_corpus(folder, 0, row.rows)
    listed = {path.name: files.sha256(path) for path in sorted(folder.rglob("*.parquet"))}
    files.write_json(folder / MADE, listed)


def _bring_some(request: DataRequest, download: Download) -> dict[str, files.Json]:
    """As many shards of each split as LIMIT needs."""
    source, folder, all_ = request.corpus.source, request.folder, {}
    for split in request.modes:
        have, count = 0, 0
        while have < request.limit:
            count += 1
            first = operator.itemgetter(slice(count))
            got = download(source, "dataset", corpus.patterns(split), folder, choose=first)
            all_ |= got
            if len(got) < count:
                break
            paths = [folder / name for name in got]
            have = sum(
                process_pool.Child(corpus.row_counts, paths, request.corpus.columns, request.remedy).result()
            )
    return all_


def describe(request: DataRequest, command: Callable[..., str]) -> list[str]:
    """What `make` would do; `command` is omr.models.hub's."""
    lines = []
    if request.raw is None and request.corpus.source:
        wanted = tuple(pattern for split in request.modes for pattern in corpus.patterns(split))
        lines.append(command(request.corpus.source, "dataset", wanted, request.folder))
    elif request.raw is None:
        named = ", ".join(map(str, request.corpus.files.values())) or "omr/tiny/corpus.py"
        lines.append(f"# {named} -> {request.folder}")
    for source in request.tokenizers.values():
        if source.pin:
            lines.append(command(source.pin, "model", prompts.TOKENIZER_FILES, source.folder))
    kept = f"filtered: {', '.join(request.round.filtered)}" if request.round.filtered else "every row"
    lines.append(f"# {', '.join(request.modes)} of {request.folder} ({kept}) -> {request.output}")
    if request.dropped:
        lines.append(f"# without the rows of {request.dropped.path}")
    if request.held_out:
        lines.append(f"# VALIDATION={request.held_out.said} -> {validation.folder_of(request.output)}")
    means = request.means
    lines.append(f"# seed {request.seed}, {means.workers} workers, {files.human(means.memory)} of memory")
    return lines
