"""The mix: the same bytes whatever workers, memory and restarts; evenly spread; torn scratch noticed."""

import hashlib
import itertools
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omr import files, recipe
from omr.data import corpus as shards
from omr.data import formatting, mixing, process_pool, prompts, scratch
from omr.errors import OmrError, RequestError
from omr.settings import ROOT
from tests.data.kit import COLUMNS, Inline, heed_interrupts

SPLITS = {"cot": 900, "tir": 500, "genselect": 100}


def write_rows(folder):
    """A small corpus that no other code makes: its mixed bytes are pinned below."""
    (folder / "data").mkdir(parents=True)
    for split, count in SPLITS.items():
        table = [
            {name: f"{name} {n}" for name in COLUMNS.texts}
            | {
                "problem": f'{split} problem {n} é \\ "{"p" * (n % 37)}"',
                "generated_solution": f"line {n}\n{'s' * (n * 7 % 301)} Remaining code executions: {n % 15}",
                "inference_mode": split,
                "used_in_kaggle": n % 3 == 0,
            }
            for n in range(count)
        ]
        for shard in range(2):
            part = pa.Table.from_pylist(table[shard::2])
            pq.write_table(part, folder / f"data/{split}-{shard:05}-of-00002.parquet", row_group_size=90)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("corpus"))


COMPILED = {
    "cot": prompts.Compiled(("<", ">"), ("problem",), "", "!"),
    "tir": prompts.Compiled(("<", "|", ">"), ("total_code_executions", "problem"), "", "!"),
    "genselect": prompts.Compiled(("", ""), ("problem",), "", ""),
}


def a_job(work, **changes):
    work.mkdir(parents=True, exist_ok=True)
    job = formatting.Job(
        corpus=recipe.CORPORA["openmathreasoning"],
        round=recipe.ROUNDS["round1"],
        seed=0,
        buckets=7,
        room=50_000,
        work=work,
        skip=False,
        compiled=COMPILED,
        tokenizer=None,
    )
    return replace(job, **changes)


def mixed(corpus, job, memory=10**9, executor=None, todo=None):
    """Format and mix; the facts, with the output's bytes."""
    found = shards.shards(corpus, recipe.SPLITS)
    format_all(job, todo or found, executor)
    facts = mixing.mix(job.work, [shard.name for shard in found], job.seed, memory, job.buckets)
    return {**asdict(facts), "bytes": (job.work / mixing.PART).read_bytes()}


def format_all(job, found, executor=None):
    """Format each shard that is not done yet."""
    executor = executor or Inline()
    left = [shard for shard in found if scratch.done(job.work, shard.name) is None]
    for future in [executor.submit(formatting.run, job, shard, 10**9) for shard in left]:
        future.result()


@pytest.fixture(scope="module")
def usual(corpus, tmp_path_factory):
    return mixed(corpus, a_job(tmp_path_factory.mktemp("usual")))


# These bytes are the format: a change of them needs a new omr.data.FORMAT.
GOLDEN = "98009524346b0d067c444b1396c12c12a9c6991d97df436e125259476cb956b1"


def test_the_bytes_are_pinned(usual, tmp_path):
    assert usual["rows"] == sum(SPLITS.values()) and usual["size"] == len(usual["bytes"])
    (tmp_path / "output").write_bytes(usual["bytes"])
    assert usual["sha256"] == files.sha256(tmp_path / "output") == GOLDEN


@pytest.mark.parametrize("room", [1, 3000, 10**9])
@pytest.mark.parametrize("memory", [mixing.MIXER + 10**6, 10**9])
def test_means_decide_no_byte(corpus, usual, tmp_path, room, memory):
    assert mixed(corpus, a_job(tmp_path / "w", room=room), memory) == usual


def test_the_order_of_the_shards_decides_no_byte(corpus, usual, tmp_path):
    backwards = shards.shards(corpus, recipe.SPLITS)[::-1]
    assert mixed(corpus, a_job(tmp_path / "w"), todo=backwards) == usual


def test_batches_decide_no_byte(corpus, usual, tmp_path, monkeypatch):
    monkeypatch.setattr(formatting, "BATCH", 3_000)
    assert mixed(corpus, a_job(tmp_path / "w")) == usual


def test_a_copy_elsewhere_mixes_alike(usual, tmp_path):
    copy = write_rows(tmp_path / "a/b/c")
    (copy / "data").rename(copy / "moved")
    assert mixed(copy, a_job(tmp_path / "w")) == usual


def test_another_seed_is_another_order_of_the_same_rows(corpus, usual, tmp_path):
    other = mixed(corpus, a_job(tmp_path / "w", seed=1))
    assert other["bytes"] != usual["bytes"]
    assert sorted(other["bytes"].splitlines()) == sorted(usual["bytes"].splitlines())


def test_in_processes(corpus, usual, tmp_path):
    with process_pool.workers(2) as workers:
        assert mixed(corpus, a_job(tmp_path / "w"), executor=workers) == usual


def test_every_split_is_spread_evenly(usual):
    """In each tenth of the file, each split's rows are within four standard deviations of their share, and
    neighbours in a shard are no neighbours in the file."""
    kinds = np.array([json.loads(line)["inference_mode"] for line in usual["bytes"].splitlines()])
    for split, count in SPLITS.items():
        share = count / len(kinds)
        for tenth in np.array_split(kinds == split, 10):
            expected, deviation = share * len(tenth), (share * (1 - share) * len(tenth)) ** 0.5
            assert abs(tenth.sum() - expected) < 4 * deviation
    numbers = [int(json.loads(line)["expected_answer"].split()[1]) for line in usual["bytes"].splitlines()]
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.1
    assert abs(np.corrcoef(numbers, range(len(numbers)))[0, 1]) < 0.1


def test_buckets_are_even_and_keyed():
    counts = np.bincount(
        scratch.choose(0, "cot-00000-of-00144.parquet", np.arange(100_000), 97), minlength=97
    )
    assert len(counts) == 97 and abs(counts - 100_000 / 97).max() < 5 * (100_000 / 97) ** 0.5
    first = scratch.choose(0, "a", np.arange(1000), 10)
    assert (first == scratch.choose(0, "a", np.arange(1000), 10)).all()
    for other in (scratch.choose(1, "a", np.arange(1000), 10), scratch.choose(0, "b", np.arange(1000), 10)):
        assert 50 < (first == other).sum() < 150
    assert (scratch.choose(0, "a", np.arange(500, 600), 10) == first[500:600]).all()


def test_how_many_buckets():
    assert [scratch.how_many(n) for n in (0, 1, scratch.BUCKET, scratch.BUCKET + 1, 114_400_000_000)] == [
        *(1, 1, 1, 2),
        1788,
    ]


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "cut":
        data = data[:100]  # behind its lines a file ends with a block
    elif how == "zeros":
        data[50:200] = bytes(150)
    else:
        data[100] ^= 1
    path.write_bytes(data)


def formatted(corpus, job):
    """All lines are in the scratch; the shards."""
    found = shards.shards(corpus, recipe.SPLITS)
    format_all(job, found)
    return found


@pytest.mark.parametrize("how", ["cut", "zeros", "bit", "gone"])
def test_torn_scratch_is_noticed(corpus, usual, tmp_path, how):
    job = a_job(tmp_path / "w")
    name = formatted(corpus, job)[-1].name
    [lines, *_] = sorted(job.work.glob(f"{name}.*.lines"), key=lambda path: -path.stat().st_size)
    if how == "gone":
        lines.unlink()
    else:
        damage(lines, how)
    with pytest.raises(scratch.Torn, match=name):
        mixed(corpus, job)
    scratch.undo(job.work, name)
    assert mixed(corpus, job) == usual


@pytest.mark.parametrize(
    ("suffix", "how"),
    [
        *itertools.product(("index.npy", "lengths.npy"), ("cut", "zeros", "bit", "gone")),
        *(("check", "zeros"), ("check", "gone")),
    ],
)
def test_what_is_known_of_torn_lines_is_noticed(corpus, usual, tmp_path, suffix, how):
    """A size or a length that is another would put other lines, or none, into the output."""
    job = a_job(tmp_path / "w")
    name = formatted(corpus, job)[-1].name
    file = job.work / f"{name}.{suffix}"
    if how == "gone":
        file.unlink()
    else:
        damage(file, how)
    if (suffix, how) != ("check", "gone"):  # as an earlier state of this toolkit left it
        with pytest.raises(scratch.Torn, match=name):
            mixed(corpus, job)
        scratch.undo(job.work, name)
    assert mixed(corpus, job) == usual


class Killed(BaseException):
    """What ends a run without a last word."""


@pytest.fixture
def cut_off(corpus, tmp_path, monkeypatch):
    """A job whose mix was ended as its fifth bucket began, and the buckets asked for after it."""

    def run():
        job, asked, real = a_job(tmp_path / "w"), [], mixing.shuffled

        def fill(*words):
            asked.append(words[-1])
            if len(asked) == 5:
                raise Killed
            return real(*words)

        monkeypatch.setattr(mixing, "shuffled", fill)
        with pytest.raises(Killed):
            mixed(corpus, job, memory=mixing.MIXER + 10**6)
        asked[:] = [None] * 9  # beyond the fifth
        return job, asked

    return run


def test_buckets_in_the_output_stay_and_need_no_scratch(corpus, usual, cut_off):
    job, asked = cut_off()
    there = {int(line) for line in (job.work / "mixed").read_text().split()}
    freed = {part for part in range(job.buckets) if not [*job.work.glob(f"*.parquet.{part}.lines")]}
    assert {scratch.part_of(bucket, job.buckets) for bucket in there} <= freed
    assert there
    assert mixed(corpus, job) == usual
    assert set(asked) - {None} == set(range(job.buckets)) - there
    assert not [*job.work.glob("*.lines")]


def test_what_counts_is_on_the_disk_before_its_lines_go(corpus, usual, tmp_path, monkeypatch):
    """A machine that crashes then loses no bucket: neither its text nor the mark that it is in the output."""
    job, on_disk, freed = a_job(tmp_path / "w"), {}, []
    real = {word: getattr(os, word) for word in ("fsync", "fdatasync")}
    free = scratch.Reader.free

    def sync(word, handle):
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        real[word](handle)
        if path.is_file():
            on_disk[path.name] = path.read_bytes()

    def goes(reader, parts):
        lost = {b for b in range(job.buckets) if scratch.part_of(b, job.buckets) in parts}
        assert lost <= {int(line) for line in on_disk["mixed"].split()}
        written = on_disk[mixing.PART]
        assert all(written[reader.starts[b] : reader.starts[b + 1]].strip(b"\0") for b in lost)
        freed.extend(parts)
        free(reader, parts)

    for word in real:
        monkeypatch.setattr(os, word, lambda handle, word=word: sync(word, handle))
    monkeypatch.setattr(scratch.Reader, "free", goes)
    assert mixed(corpus, job) == usual
    assert sorted(freed) == list(range(scratch.parts(job.buckets)))


@pytest.mark.parametrize("line", ["6", "\0\0\0\n", "x\n"], ids=["cut", "zeros", "no number"])
def test_a_torn_line_of_the_mixed_buckets_counts_not(corpus, usual, cut_off, line):
    job, asked = cut_off()
    with (job.work / "mixed").open("a") as handle:
        handle.write(line)
    assert mixed(corpus, job) == usual
    assert 6 in asked


def test_without_its_output_no_bucket_is_mixed(corpus, tmp_path):
    """Its lines are gone: the shards are formatted again, one by one."""
    job = a_job(tmp_path / "w")
    mixed(corpus, job)
    (job.work / mixing.PART).unlink()
    with pytest.raises(scratch.Torn):
        mixed(corpus, job)


def test_a_finished_shard_is_not_formatted_again(corpus, usual, tmp_path, monkeypatch):
    job = a_job(tmp_path / "w")
    formatted(corpus, job)
    name = "cot-00001-of-00002.parquet"
    (job.work / f"{name}.json").unlink()  # as a kill before its last step leaves it
    asked = []
    real = formatting.run
    monkeypatch.setattr(
        formatting, "run", lambda job, shard, *more: (asked.append(shard.name), real(job, shard, *more))[1]
    )
    assert mixed(corpus, job) == usual
    assert asked == [name]


def test_a_shard_that_changes_or_vanishes_is_noticed(tmp_path):
    corpus = write_rows(tmp_path / "corpus")
    found = shards.shards(corpus, ("cot",))
    job = a_job(tmp_path / "w")
    found[0].path.touch()
    with pytest.raises(OmrError, match=r"cot-00000-of-00002.parquet: was changed while it was read"):
        formatting.run(job, found[0], 10**9)
    found[1].path.unlink()
    with pytest.raises(OmrError, match=r"cot-00001-of-00002.parquet: No such file.*put it back"):
        formatting.run(job, found[1], 10**9)
    assert [path.name for path in job.work.iterdir()] == []


def test_a_worker_that_is_killed_is_said(tmp_path):
    import os

    words = r"was killed .out of memory.*fewer WORKERS"
    with pytest.raises(OmrError, match=words), process_pool.workers(1) as workers:
        workers.submit(os.abort).result()
    with pytest.raises(OmrError, match=words):
        process_pool.Child(os.abort).result()


@pytest.mark.parametrize("begin", ["process_pool.Child(int)", "process_pool.workers(1).__enter__()"])
@pytest.mark.slow
def test_an_interrupt_during_a_fork_is_not_lost(begin):
    """Python ignores what is raised in a callback after a fork, so an interrupt has to wait for its end."""
    script = f"""
import os, signal
from omr.data import process_pool
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGINT))
try:
    {begin}
except KeyboardInterrupt:
    os._exit(42)
"""
    command = [sys.executable, "-c", script]
    caught = {"capture_output": True, "text": True, "timeout": 120}
    done = subprocess.run(command, cwd=ROOT, preexec_fn=heed_interrupts, **caught)
    assert done.returncode == 42 and "ignored" not in done.stderr, done.stderr


def test_a_child_answers_with_what_it_returned_or_raised():
    assert process_pool.Child(sorted, "cab").result() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="invalid literal"):
        process_pool.Child(int, "x").result()


def test_a_shuf_that_fails_is_said(corpus, tmp_path, monkeypatch):
    script = tmp_path / "bin" / "shuf"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\necho 'shuf: no luck' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{Path('/usr/bin')}:/bin")
    with pytest.raises(OmrError, match=r"shuf failed .shuf: no luck"):
        mixed(corpus, a_job(tmp_path / "w"))


def test_another_shuf_is_refused(tmp_path, monkeypatch):
    script = tmp_path / "shuf"
    script.write_text("#!/bin/sh\necho BusyBox\n")
    script.chmod(0o755)
    mixing.need_shuf()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RequestError, match=r"GNU shuf is not installed"):
        mixing.need_shuf()
    script.unlink()
    with pytest.raises(RequestError, match=r"GNU shuf is not installed"):
        mixing.need_shuf()


@pytest.mark.parametrize("count", [1, 2, 3, 1000, 70_000])
def test_lines_come_in_the_order_in_which_shuf_puts_them(tmp_path, count):
    """shuf is asked for the order of numbers; it puts lines in the same one."""
    random = hashlib.shake_256(b"3 5").digest(16 * count + 1024)
    (tmp_path / "random").write_bytes(random)
    lines = "".join(f"line {n}\n" for n in range(count))
    command = ["shuf", f"--random-source={tmp_path / 'random'}"]
    said = subprocess.run(command, input=lines, capture_output=True, text=True, check=True).stdout
    assert [f"line {n}" for n in mixing.order(count, 3, 5)] == said.splitlines()


def test_shuf_shuffles_as_it_always_did(tmp_path):
    """Its order for a random source is part of the format."""
    (tmp_path / "random").write_bytes(bytes(range(256)) * 4)
    lines = "".join(f"{n}\n" for n in range(10))
    command = ["shuf", f"--random-source={tmp_path / 'random'}"]
    said = subprocess.run(command, input=lines, capture_output=True, text=True, check=True).stdout
    assert said.split() == list("0132476589")


@pytest.mark.parametrize(
    "text, size",
    [
        ("512M", 512 * 10**6),
        ("4G", 4 * 10**9),
        ("1.5g", 15 * 10**8),
        ("2000000000", 2 * 10**9),
        ("1T", 10**12),
    ],
)
def test_memory(text, size):
    assert mixing.parse_memory(text) == size


@pytest.mark.parametrize("text", ["abc", "4X", "G", "-", "1 2"])
def test_no_memory(text):
    with pytest.raises(RequestError, match=f"MEMORY={text} is no amount of memory"):
        mixing.parse_memory(text)


def test_little_memory_takes_fewer_workers():
    assert mixing.means(64, "1G").workers < 64
    assert mixing.means(2, None).workers == 2
    with pytest.raises(RequestError, match=r"MEMORY=50M is too little; one worker needs \d+M"):
        mixing.means(1, "50M")


def test_memory_for_no_bucket_names_the_least(corpus, usual, tmp_path, monkeypatch):
    job = a_job(tmp_path / "w")
    formatted(corpus, job)
    names = [shard.name for shard in shards.shards(corpus, recipe.SPLITS)]
    whole = scratch.Reader(job.work, names).sizes.max()
    monkeypatch.setattr(mixing, "MIXER", 10**9 - int(whole))
    with pytest.raises(
        OmrError, match=r"MEMORY=1\.0 GB holds no bucket of .*; run again with MEMORY=(\d+)M"
    ) as said:
        mixed(corpus, job)
    least = mixing.parse_memory(str(said.value).split("MEMORY=")[2].split()[0])
    assert mixing.mix(job.work, names, job.seed, least, job.buckets).sha256 == usual["sha256"]
    with pytest.raises(OmrError, match=r"holds no bucket"):
        mixing.mix(job.work, names, job.seed, least - 10**6, job.buckets)


def test_a_full_disk_is_said_before_mixing(corpus, tmp_path, monkeypatch):
    job = a_job(tmp_path / "w")
    found = formatted(corpus, job)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(OmrError, match=r"the mixed file needs .* 10 B is free"):
        mixing.mix(job.work, [shard.name for shard in found], job.seed, 10**9, job.buckets)
