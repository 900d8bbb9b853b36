"""The real client against the loopback hub: reached, silent, shut, offline; a token's scope."""

import pytest

from omr import recipe
from omr.reports.doctor import hub
from tests.models.hub.loopback import Hub

from .kit import asked, held, row

READ = {"name": "ann", "auth": {"accessToken": {"displayName": "t", "role": "read"}}}
WRITE = {"name": "ann", "auth": {"accessToken": {"displayName": "t", "role": "write"}}}


def fine(*permissions):
    scoped = [{"entity": {"type": "user", "name": "team"}, "permissions": list(permissions)}]
    return {
        "name": "ann",
        "auth": {"accessToken": {"role": "fineGrained", "fineGrained": {"scoped": scoped}}},
    }


@pytest.fixture
def loopback(monkeypatch, tmp_path):
    """A hub that has the base of 7b, private; the client keeps its endpoint in a constant."""
    from huggingface_hub import constants

    with Hub() as served:
        pin = recipe.model("7b").base
        served.add("model", pin.repo, {"config.json": b"{}"}, pin.revision)
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        monkeypatch.setattr(constants, "ENDPOINT", served.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.delenv("BASE", raising=False)
        served.pin = pin
        yield served


def test_what_is_needed_is_there(loopback, tmp_path):
    found = hub.checks(asked("model", tmp_path))
    held(row(found, "hub"), "ok", f"{loopback.pin.repo}@{loopback.pin.revision[:8]} answers")
    held(row(found, "hub token"), "ok", "none; public ones need none")
    assert [check.found for check in hub.checks(asked("train", tmp_path))] == ["nothing is to be downloaded"]


@pytest.mark.parametrize(
    ("spoil", "said", "advice"),
    [
        (
            lambda served: served.private.update({served.pin.repo: "s3cret"}),
            "refuses access (401)",
            "HF_TOKEN",
        ),
        (lambda served: served.repos.clear(), "is not on the hub (404)", "BASE="),
        (
            lambda served: served.repos[("model", served.pin.repo)].update(revision="0" * 40),
            "does not have the pinned revision",
            "HF_ENDPOINT",
        ),
        (
            lambda served: served.repos[("model", served.pin.repo)].update(files={}),
            "has no file like config.json",
            "BASE=",
        ),
    ],
)
def test_what_is_needed_is_not_there(loopback, tmp_path, spoil, said, advice):
    spoil(loopback)
    held(row(hub.checks(asked("model", tmp_path)), "hub"), "fix", said, advice)


def test_nothing_answers_there(loopback, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    [check] = hub.checks(asked("model", tmp_path))
    held(check, "fix", "http://127.0.0.1:9 does not answer", "set HF_ENDPOINT or HTTPS_PROXY, or set BASE=")


def test_offline(loopback, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    [check] = hub.checks(asked("model", tmp_path))
    held(check, "warn", "HF_HUB_OFFLINE=1", "unset HF_HUB_OFFLINE")
    [check] = hub.checks(asked("publish", tmp_path))
    held(check, "fix", "forbids to publish", "unset HF_HUB_OFFLINE")


@pytest.mark.parametrize(
    ("target", "token", "answer", "state", "said"),
    [
        ("model", "hf_a", READ, "ok", "ann, may read"),
        ("model", "hf_bad", None, "fix", "does not know it (401)"),
        ("publish", None, None, "fix", "none"),
        ("publish", "hf_a", READ, "fix", "ann, may read"),
        ("publish", "hf_a", WRITE, "ok", "ann, may write"),
        ("publish", "hf_a", fine("repo.content.read"), "fix", "fine-grained, may read"),
        ("publish", "hf_a", fine("repo.content.read", "repo.write"), "ok", "may write to team"),
    ],
)
def test_the_scope_of_the_token(loopback, tmp_path, monkeypatch, target, token, answer, state, said):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    if answer:
        loopback.tokens[token] = answer
    check = row(hub.checks(asked(target, tmp_path)), "hub token")
    held(check, state, said, "" if state == "ok" else "HF_TOKEN in .env")
    assert "hf_" not in check.found + check.advice


def test_raw_and_tokenizers_of_ones_own_need_no_hub(tmp_path):
    (tmp_path / "t").mkdir()
    words = {"dataset": "openmathreasoning", "raw": str(tmp_path / "t"), "tokenizer": str(tmp_path / "t")}
    assert hub.wanted(asked("data", tmp_path, **words)) == []
    assert len(hub.wanted(asked("data", tmp_path, dataset="openmathreasoning"))) == 2
    assert len(hub.wanted(asked("pipeline", tmp_path))) == 4
