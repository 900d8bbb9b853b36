"""The real client against a hub that refuses, breaks off and lies; a publisher that is killed."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from omr.errors import OmrError, RequestError
from omr.reports.publishing import publication, upload
from omr.settings import ROOT
from tests.models.hub.writable import WritableHub
from tests.reports.publishing.conftest import REPO

TOKEN = "a-token-that-may-write"


@pytest.fixture
def server(monkeypatch, tmp_path):
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    with WritableHub({TOKEN}) as hub:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the hub speaks LFS
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(time, "sleep", lambda _: None)
        yield hub
        _http.close_session()


@pytest.fixture
def made(finished):
    workspace, run = finished
    return publication.prepare(run, workspace, REPO)


def bytes_of(made):
    return {
        item.name: item.source if isinstance(item.source, bytes) else item.source.read_bytes()
        for item in made.items
    }


def there(server):
    return {name: data for name, data in server.files(REPO).items() if name != ".gitattributes"}


@pytest.mark.slow
def test_one_commit_private_and_whole(server, made):
    done = upload.publish(made)
    assert there(server) == bytes_of(made)
    assert len(server.commits) == 1 and not server.open(REPO)
    assert (done.url, done.sent, done.private) == (f"{server.endpoint}/{REPO}", len(made.items), True)


@pytest.mark.slow
def test_a_second_run_sends_nothing(server, made):
    upload.publish(made)
    server.received.clear()
    assert upload.publish(made).sent == 0
    assert not server.received and len(server.commits) == 1


@pytest.mark.slow
def test_public_opens_it_when_all_is_there(server, made):
    upload.publish(made)
    assert not server.open(REPO)
    assert not upload.publish(made, public=True).private
    assert server.open(REPO) and len(server.commits) == 1


@pytest.mark.slow
def test_an_open_repository_is_not_published_to_by_accident(server, made):
    server.make(REPO, private=False)
    with pytest.raises(RequestError, match="is open to everybody; add PUBLIC=1"):
        upload.publish(made)
    assert not server.commits
    upload.publish(made, public=True)
    assert there(server) == bytes_of(made)


OTHERS = [
    {"model.safetensors": b"other weights" * 100},
    {"config.json": b"{}"},
    {"pytorch_model.bin": b"x" * 200},
]


@pytest.mark.slow
@pytest.mark.parametrize("other", OTHERS, ids=lambda other: next(iter(other)))
def test_another_model_stays_unless_force_says_so(server, made, other):
    server.make(REPO, files={"README.md": b"mine", "LICENSE": b"mine", **other})
    before = dict(server.files(REPO))
    with pytest.raises(RequestError, match=f"has another model .*{next(iter(other))}.*choose another REPO="):
        upload.publish(made)
    assert server.files(REPO) == before and not server.received
    upload.publish(made, force=True)
    assert there(server) == {**bytes_of(made), "LICENSE": b"mine"}
    assert len(server.commits) == 1


@pytest.mark.slow
def test_what_a_new_repository_has_is_no_other_model(server, made):
    server.make(REPO, files={"README.md": b"# to come", "LICENSE": b"mine"})
    upload.publish(made)
    assert there(server) == {**bytes_of(made), "LICENSE": b"mine"}


def test_a_token_that_may_not_write(server, made, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "another")
    with pytest.raises(OmrError, match=rf"{REPO}: the hub refuses access \(401\); set HF_TOKEN"):
        upload.publish(made)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        (f"api/models/{REPO}/commit", 412, "changed on the hub meanwhile"),
        (f"api/models/{REPO}/commit", 413, "the hub answered 413"),
        (f"api/models/{REPO}/preupload", 403, "the hub refuses access"),
    ],
)
def test_a_refusal_is_one_line_and_leaves_nothing_half(server, made, path, status, said):
    server.fault(f"POST {path}", status=status)
    with pytest.raises(OmrError, match=said) as caught:
        upload.publish(made)
    assert "\n" not in str(caught.value) and TOKEN not in str(caught.value)
    assert there(server) == {}
    upload.publish(made)
    assert there(server) == bytes_of(made)


@pytest.mark.slow
def test_a_commit_of_another_process_between_is_not_undone(server, made, monkeypatch):
    send = upload._commit

    def late(api, publication, remote, *rest):
        server.make(REPO, files={"model.safetensors": b"another's" * 100})
        send(api, publication, remote, *rest)

    monkeypatch.setattr(upload, "_commit", late)
    with pytest.raises(OmrError, match="changed on the hub meanwhile"):
        upload.publish(made)
    assert there(server) == {"model.safetensors": b"another's" * 100}


@pytest.mark.slow
def test_a_hub_that_keeps_other_bytes_is_noticed(server, made):
    server.spoilt = True
    with pytest.raises(OmrError, match="lists other bytes than were sent"):
        upload.publish(made, public=True)
    assert not server.open(REPO)


def test_offline_it_is_refused(server, made, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RequestError, match="HF_HUB_OFFLINE=1"):
        upload.publish(made)


def script(workspace, run, endpoint, *words):
    environ = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": TOKEN,
        "OMR_ENV_FILE": "/dev/null",
        "WORKSPACE": str(workspace.root),
    }
    command = [sys.executable, str(ROOT / "bin/publish.py"), "--model", "tiny", "--repo", REPO, *words]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_whole(finished):
    """Whatever came whole is not sent again, and a reader never sees a part of the model."""
    workspace, run = finished
    draw = random.Random(7)
    wanted = bytes_of(publication.prepare(run, workspace, REPO))
    with WritableHub({TOKEN}, pause=0.05) as hub:  # some seconds for the weights
        kills = 0
        while True:
            process = script(workspace, run, hub.endpoint)
            deadline = time.monotonic() + draw.uniform(0, 2)
            while process.poll() is None and (
                ("model", REPO) not in hub.repos or time.monotonic() < deadline
            ):
                if ("model", REPO) not in hub.repos:
                    deadline = time.monotonic() + draw.uniform(0, 2)
                time.sleep(0.01)
            if kills < 6:
                process.send_signal(signal.SIGKILL)
            out, err = process.communicate()
            if ("model", REPO) in hub.repos:
                assert there(hub) in ({}, wanted)
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL, err
            kills += 1
            if kills >= 6:
                hub.pause = 0
        assert kills >= 3
        digest = lambda data: hashlib.sha256(data).hexdigest()  # noqa: E731
        assert {n: digest(d) for n, d in there(hub).items()} == {n: digest(d) for n, d in wanted.items()}
        # What a killed one had on its way may still arrive whole, beside the same from a later one.
        assert len(hub.received) <= len(set(hub.received)) + kills, "nothing else is sent twice"
        assert len(hub.commits) == 1
        assert f"{hub.endpoint}/{REPO}" in out and TOKEN not in out + err


@pytest.mark.slow
def test_the_script_lists_and_refuses(finished):
    workspace, run = finished
    with WritableHub({TOKEN}) as hub:
        shown = script(workspace, run, hub.endpoint, "--dry_run")
        out, err = shown.communicate()
        assert shown.returncode == 0, err
        for item in publication.prepare(run, workspace, REPO).items:
            assert item.name in out
        assert f"would publish these as {REPO}, private" in out
        readme = workspace.run(run).final / "README.md"
        readme.write_text(readme.read_text() + "\nhf_" + "aB3" * 12 + "\n")
        refused = script(workspace, run, hub.endpoint)
        out, err = refused.communicate()
        assert refused.returncode == 2 and err.count("\n") == 1
        assert "README.md: line" in err and "a token of Hugging Face" in err
        assert not hub.log and not hub.repos
