"""What must not be published is found, and what only looks so is not."""

import socket
from pathlib import Path

import pytest

from omr.reports.publishing.leaks import Watch
from omr.settings import ROOT
from omr.workspace import Workspace

HEX = "0123456789abcdef0123456789abcdef01234567"
WORKSPACE = Workspace(Path("/srv/sft/space"))


def watch(**environ):
    return Watch.of(WORKSPACE, environ)


def found(text, vocabulary=False, **environ):
    return [leak.what for leak in watch(**environ).find(text, vocabulary)]


# Put together here, so that no scanner of this repository takes them for real.
TOKENS = [
    ("hf_" + "aB3" * 11 + "x", "a token of Hugging Face"),
    ("WANDB_API_KEY=" + HEX, "a key of W&B"),
    ('"wandb_api_key": "' + HEX + '"', "a key of W&B"),
    ("wandb_v1_" + "Ab3" * 20, "a key of W&B"),
    ("sk-" + "a1B2" * 6, "a key of OpenAI or Anthropic"),
    ("sk-proj-" + "a1B2" * 10, "a key of OpenAI or Anthropic"),
    ("sk-ant-api03-" + "a1B2" * 10, "a key of OpenAI or Anthropic"),
    ("nvapi-" + "a1B2-" * 12, "a key of NVIDIA"),
    ("AKIA" + "ABCDEFGH12345678", "a key of AWS"),
    ("AIza" + "a1B2c3D4e5" * 3 + "a1B2c", "a key of Google"),
    ("ghp_" + "a1B2c3" * 6, "a token of GitHub"),
    ("github_pat_" + "a1B2c3" * 6, "a token of GitHub"),
    ("glpat-" + "a1B2c3" * 4, "a token of GitLab"),
    ("xoxb-" + "1234-5678-abcdef", "a token of Slack"),
    ("-----BEGIN " + "OPENSSH PRIVATE KEY-----", "a private key"),
    ("-----BEGIN " + "PRIVATE KEY-----", "a private key"),
    ("https://me:" + "s3cret@hub.example.org/x", "a password in an address"),
]


@pytest.mark.parametrize(("token", "what"), TOKENS)
@pytest.mark.parametrize("vocabulary", [True, False])
def test_a_token_is_known_by_its_form(token, what, vocabulary):
    assert found(f"one line\nand {token} here\n", vocabulary) == [what]
    [leak] = watch().find(f"one line\nand {token} here\n")
    assert leak.line == 2 and token not in repr(leak)


@pytest.mark.parametrize(
    "text",
    [
        f"Code {HEX}, revision {HEX}",  # every commit looks like a key of W&B
        "hf_hub_download, hf_xet, sk-learn, task-oriented-and-long-enough-to-be-one",
        "AKIA is a word of the vocabulary",
        "BEGIN PUBLIC KEY",
        "https://huggingface.co/org/model: see http://localhost:8000/v1",
        "`vllm serve org/model`, and/or, 3/4, a/home/b, https://x.org/home/me",
        "/ tmp and /root alone",
    ],
)
def test_what_only_looks_so(text):
    assert not found(text)


@pytest.mark.parametrize("name", ["HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "SMTP_PASSWORD"])
def test_a_secret_of_the_environment_is_known_by_its_value(name):
    text = 'x "pass\\"word-1" y'
    assert found(text, **{name: 'pass"word-1'}) == [f"the value of {name}"], "as JSON spells it"
    assert not found(text, **{name: "other-word"})


def test_what_is_no_secret_or_too_short_to_be_told():
    assert not found("true words", TOKENIZERS_PARALLELISM="true", EDITOR="words words")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("/srv/sft/space/runs/7b", "the workspace's path"),
        (f"{ROOT}/omr", "this repository's path"),
        ("/srv/people/me/x", "the home folder's path"),
        ('"_name_or_path": "/scratch/someone/7b"', "a path of a machine"),
        ("/home/me", "a path of a machine"),
    ],
)
def test_a_path_of_this_machine(monkeypatch, text, what):
    monkeypatch.setenv("HOME", "/srv/people/me")
    assert what in found(text)


def test_paths_are_words_of_a_vocabulary():
    text = '"/var/www": 1, "/home/user": 2, "/root": 3'
    assert found(text) and not found(text, vocabulary=True)


@pytest.mark.parametrize(("host", "told"), [("node-17", True), ("gpu4.lab.org", True), ("math", False)])
def test_the_hosts_name(monkeypatch, host, told):
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert bool(found(f"made on {host}.")) == told
    assert not found(f"made on {host}-b")
