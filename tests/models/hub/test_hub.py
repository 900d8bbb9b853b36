"""omr/models/hub.py with the real client against a hub that cuts, refuses, truncates and lies."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from omr.errors import OmrError
from omr.models import hub, transfer
from omr.recipe import Pin
from omr.settings import ROOT
from tests.models.hub.loopback import Hub

PIN = Pin("org/set", "0123456789abcdef0123456789abcdef01234567")
LARGE = "data/cot-00000-of-00002.parquet"
FILES = {
    LARGE: random.Random(1).randbytes(300_000),
    "data/cot-00001-of-00002.parquet": random.Random(2).randbytes(200_000),
    "data/tir-00000-of-00001.parquet": random.Random(3).randbytes(100_000),
    "README.md": b"small enough to be no LFS file",
}


@pytest.fixture
def server(monkeypatch, tmp_path):
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    with Hub() as hub_server:
        hub_server.add("dataset", PIN.repo, FILES, PIN.revision)
        hub_server.add("model", "org/model", FILES, PIN.revision)
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        # Read at import, which another test may have caused while it was offline.
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub_server.endpoint)
        template = hub_server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"  # made at import, too
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
        naps = []
        monkeypatch.setattr(time, "sleep", naps.append)  # the client's module is the same
        hub_server.naps = naps
        yield hub_server
        _http.close_session()


def fetch(folder, patterns=("*",), pin=PIN, kind="dataset", **more):
    return hub.download(pin, kind, patterns, folder, **more)


def same(folder, names=FILES):
    assert {n: (folder / n).read_bytes() for n in names} == {n: FILES[n] for n in names}
    left = [p.name for p in folder.rglob("*") if p.is_file() and p.name.endswith(".part")]
    assert not left


@pytest.mark.parametrize("kind, pin", [("dataset", PIN), ("model", Pin("org/model", PIN.revision))])
def test_brings_what_is_asked_for(server, tmp_path, kind, pin):
    got = fetch(tmp_path / "raw", ("data/cot-*", "README.md"), pin, kind)
    assert sorted(got) == ["README.md", LARGE, "data/cot-00001-of-00002.parquet"]
    for name, facts in got.items():
        assert facts == {"size": len(FILES[name]), "sha256": hashlib.sha256(FILES[name]).hexdigest()}
    same(tmp_path / "raw", got)
    assert not (tmp_path / "raw/data/tir-00000-of-00001.parquet").exists()


def test_a_second_download_asks_nothing(server, tmp_path):
    first = fetch(tmp_path / "raw")
    server.log.clear()
    server.fault("tree", times=50, status=500)
    assert fetch(tmp_path / "raw") == first == hub.kept(PIN, tmp_path / "raw", ("*",))
    assert server.log == []


def test_more_patterns_later_fetch_only_the_new(server, tmp_path):
    fetch(tmp_path / "raw", ("data/cot-*",))
    server.log.clear()
    fetch(tmp_path / "raw", ("data/cot-*", "data/tir-*"))
    assert {path for _, path, _ in server.log} == {"data/tir-00000-of-00001.parquet"}


@pytest.mark.parametrize(
    "fault",
    [
        {"cut": 100_000},
        {"cut": 0},
        {"status": 429, "retry_after": 3},
        {"status": 429},
        {"status": 500},
        {"status": 503},
        {"status": 504},
        {"body": FILES[LARGE][:1000]},
        {"body": bytes(300_000)},
    ],
    ids=lambda fault: " ".join(f"{k}={v if isinstance(v, int) else len(v)}" for k, v in fault.items()),
)
def test_one_fault_is_overcome(server, tmp_path, fault):
    server.fault(LARGE, **fault)
    fetch(tmp_path / "raw")
    same(tmp_path / "raw")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_question_about_a_file_that_fails_once_is_asked_again(server, tmp_path, status):
    server.fault(f"HEAD {LARGE}", status=status)
    fetch(tmp_path / "raw")
    same(tmp_path / "raw")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_listing_that_fails_once_is_asked_again(server, tmp_path, status):
    server.fault("tree", status=status)
    fetch(tmp_path / "raw")
    same(tmp_path / "raw")


def test_a_connection_cut_many_times_goes_on_where_it_stopped(server, tmp_path):
    server.fault(LARGE, times=20, cut=10_000)
    fetch(tmp_path / "raw", (LARGE,), streams=1)
    same(tmp_path / "raw", [LARGE])
    ranges = [h.get("range", h.get("Range")) for h in server.asked(LARGE)]
    assert ranges[:3] == [None, "bytes=10000-", "bytes=20000-"]
    assert len(ranges) == 21


def test_retry_after_is_obeyed(server, tmp_path):
    server.fault(LARGE, status=429, retry_after=7)
    fetch(tmp_path / "raw", (LARGE,))
    assert any(7 <= nap <= 9 for nap in server.naps)


@pytest.mark.parametrize(
    "fault, words",
    [
        ({"status": 429}, "the hub answered 429, 5 times in a row; run again to go on, or set RAW="),
        ({"status": 503}, "the hub answered 503, 5 times in a row"),
        ({"cut": 0}, "the connection failed"),
        ({"body": FILES[LARGE][:1000]}, "the hub sent fewer bytes than it lists"),
        ({"body": bytes(300_000)}, "serves other bytes than it lists"),
        ({"status": 451}, "the hub answered 451"),
    ],
    ids=("429", "503", "cut", "truncated", "wrong", "451"),
)
def test_a_fault_that_stays_ends_in_one_line(server, tmp_path, fault, words):
    server.fault(LARGE, times=200, **fault)
    if "status" in fault:
        server.fault(f"HEAD {LARGE}", times=200, **fault)
    with pytest.raises(OmrError, match=LARGE) as caught:
        fetch(tmp_path / "raw")
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "raw" / LARGE).exists()  # nothing under a final name
    server.faults.clear()
    fetch(tmp_path / "raw")
    same(tmp_path / "raw")


def test_what_the_hub_does_not_have(server, tmp_path):
    with pytest.raises(OmrError, match=r"org/none: is not on the hub \(404\)|org/none: the hub refuses"):
        fetch(tmp_path / "a", pin=Pin("org/none", PIN.revision))
    with pytest.raises(OmrError, match="does not have the pinned revision"):
        fetch(tmp_path / "b", pin=Pin(PIN.repo, "f" * 40))
    with pytest.raises(OmrError, match="has no file like x-"):
        fetch(tmp_path / "c", ("x-*",))


def test_a_private_repository_opens_with_the_token(server, tmp_path, monkeypatch):
    server.private[PIN.repo] = "secret"
    with pytest.raises(OmrError, match="set HF_TOKEN"):
        fetch(tmp_path / "raw")
    monkeypatch.setenv("HF_TOKEN", "secret")
    fetch(tmp_path / "raw")
    same(tmp_path / "raw")


def test_a_full_disk_is_seen_before_the_first_byte(server, tmp_path, monkeypatch):
    monkeypatch.setattr(hub.files.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OmrError, match=r"needs 600\.0 kB .* 1\.0 kB is free"):
        fetch(tmp_path / "raw")
    assert server.log == []


def test_a_file_that_was_changed_is_fetched_again(server, tmp_path):
    fetch(tmp_path / "raw")
    (tmp_path / "raw" / LARGE).write_bytes(b"mine")
    server.log.clear()
    fetch(tmp_path / "raw")
    same(tmp_path / "raw")
    assert {path for _, path, _ in server.log} == {LARGE}


def test_files_brought_by_hand_are_proved_not_fetched(server, tmp_path):
    for name, data in FILES.items():
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / name).write_bytes(data if name != LARGE else bytes(len(data)))
    fetch(tmp_path / "raw")
    same(tmp_path / "raw")
    assert {path for _, path, _ in server.log} == {LARGE}


def test_another_revision_is_another_download(server, tmp_path):
    fetch(tmp_path / "raw")
    new = {**FILES, LARGE: FILES[LARGE][::-1]}
    server.add("dataset", PIN.repo, new, "a" * 40)
    server.log.clear()
    fetch(tmp_path / "raw", pin=Pin(PIN.repo, "a" * 40))
    assert (tmp_path / "raw" / LARGE).read_bytes() == new[LARGE]
    assert {path for _, path, _ in server.log} == {LARGE}  # the others are the same bytes


def test_offline_the_cache_serves(server, tmp_path, monkeypatch):
    from huggingface_hub import constants, snapshot_download

    snapshot_download(
        PIN.repo,
        repo_type="dataset",
        revision=PIN.revision,
        cache_dir=constants.HF_HUB_CACHE,
        endpoint=server.endpoint,
    )
    server.log.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OmrError, match="HF_HUB_OFFLINE=1 and it is not in the cache; set BASE="):
        fetch(
            tmp_path / "none", pin=Pin("org/model", PIN.revision), kind="model", advice="set BASE= to a copy"
        )
    got = fetch(tmp_path / "raw")
    same(tmp_path / "raw")
    assert set(got) == set(FILES) and server.log == []


def test_a_listing_that_leaves_the_folder_is_refused(server, tmp_path):
    server.add("dataset", "org/evil", {"../../data/x": b"x" * 200}, PIN.revision)
    with pytest.raises(OmrError, match="outside its folder"):
        fetch(tmp_path / "raw", pin=Pin("org/evil", PIN.revision))


def test_the_command_says_the_same_to_hf(tmp_path):
    said = hub.command(PIN, "dataset", ("data/cot-*", "data/tir-*"), tmp_path)
    assert said == (
        f"hf download org/set --repo-type dataset --revision {PIN.revision} --include 'data/cot-*'"
        f" --include 'data/tir-*' --local-dir {tmp_path}"
    )


CHILD = """
import fcntl, sys, time
from pathlib import Path
from omr.models import hub, transfer
from omr.recipe import Pin
folder, repo, revision, pattern, lock = sys.argv[1:]
if lock == "shut out nobody":  # as some Lustre, GPFS and NFS mounts do
    fcntl.flock = lambda *_: None
    time.sleep = lambda _, wait=time.sleep: wait(0.1)
hub.download(Pin(repo, revision), "dataset", (pattern,), Path(folder), streams=2)
"""


def child(server, tmp_path, pattern="data/*", lock="real"):
    """A download in a process of its own, and the folder it fills."""
    environ = {**os.environ, "HF_ENDPOINT": server.endpoint, "HF_HOME": str(tmp_path / "home")}
    words = [sys.executable, "-c", CHILD, str(tmp_path / "raw"), PIN.repo, PIN.revision, pattern, lock]
    return subprocess.Popen(words, env=environ, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def wait_for(condition):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come")


def arriving(folder):
    """Bytes of files that have no final name yet."""
    return transfer._size(folder) if folder.exists() else 0


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on(tmp_path):
    """A process of its own, SIGKILLed while a file arrives: the finished ones are not asked for again."""
    small, raw = "data/cot-00001-of-00002.parquet", tmp_path / "raw"
    with Hub() as server:
        big = {LARGE: random.Random(4).randbytes(60_000_000), small: FILES[small]}
        server.add("dataset", PIN.repo, big, PIN.revision)
        server.fault(LARGE, cut=30_000_000)
        server.fault(LARGE, times=100, status=503)
        first = child(server, tmp_path)
        wait_for(lambda: (raw / small).exists() and arriving(raw) >= 20_000_000)
        wait_for(lambda: small in (raw / hub.RECORD).read_text() if (raw / hub.RECORD).exists() else False)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        assert not (raw / LARGE).exists() and list(raw.glob(".hub-*"))
        server.faults.clear()
        server.log.clear()
        again = child(server, tmp_path)
        assert again.wait() == 0, again.stderr.read()
        assert {name: (raw / name).read_bytes() for name in big} == big
        assert not server.asked(small) and len(server.asked(LARGE)) == 1
        assert not list(raw.glob(".hub-*")), "what the killed one left is gone"


@pytest.mark.slow
def test_two_at_once_where_the_lock_shuts_out_nobody(tmp_path):
    """Neither sees the other's files before they are whole: both succeed, and every file is verified."""
    with Hub() as server:
        files = {f"data/{n}.parquet": random.Random(n).randbytes(3_000_000 + n) for n in range(6)}
        server.add("dataset", PIN.repo, files, PIN.revision)
        for name in files:
            server.fault(name, times=2, cut=1_000_000)  # they are at the same file for a while
        both = [child(server, tmp_path, lock="shut out nobody") for _ in range(2)]
        for process in both:
            assert process.wait() == 0, process.stderr.read()
        raw = tmp_path / "raw"
        assert {name: (raw / name).read_bytes() for name in files} == files
        record = json.loads((raw / hub.RECORD).read_text())
        assert {n: e["sha256"] for n, e in record["files"].items()} == {
            n: hashlib.sha256(data).hexdigest() for n, data in files.items()
        }
        assert not list(raw.glob(".hub-*"))
        server.log.clear()
        assert child(server, tmp_path).wait() == 0
        assert server.log == [], "nothing is left to fetch"


@pytest.mark.slow
def test_a_second_one_is_told_to_wait_where_locks_work(tmp_path):
    with Hub() as server:
        server.add("dataset", PIN.repo, FILES, PIN.revision)
        server.fault(LARGE, times=100, status=503)
        first = child(server, tmp_path)
        wait_for(lambda: (tmp_path / "raw" / "data").exists())
        second = child(server, tmp_path)
        assert second.wait() == 1 and "is being made by process" in second.stderr.read()
        first.kill()
        first.communicate()
