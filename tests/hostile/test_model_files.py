"""Files of a model, as others give them: config, tokenizer, weights, index, the hub's record."""

import json
import os
import struct

import pytest

from omr import recipe
from omr.models import architecture, hub, passport, rope, tokens, weights
from omr.recipe import Pin
from omr.tiny.model import write_base
from tests.models.kit import write_shard

from .kit import Reader, attack, refusal

MODEL = recipe.run("tiny", 1).model
PIN = Pin("x/y", "0" * 40)


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """The tiny base model as it is published."""
    folder = tmp_path_factory.mktemp("base") / "base"
    write_base(folder)
    return folder


def config(path):
    found = rope.parse(path)
    rope.places(found), architecture.dtype(found)
    [str(each) for each in architecture.setting_differences(found, architecture.of(MODEL))]
    refusal(lambda: rope.check(path.parent, MODEL))


def index(path):
    data = struct.pack("<f", 1.5)
    write_shard(path.with_name("model-00001-of-00002.safetensors"), {"a": ("F32", [1], data)})
    write_shard(path.with_name("model-00002-of-00002.safetensors"), {"b": ("F32", [1], data)})
    weights.shards(path.parent)


def tokenizer(path):
    tokens.vocabulary(path.parent)


def tokenizer_settings(path):
    tokens.template(path.parent, rope.parse(path))


def station(path):
    """Everything that make passport reads of a folder."""
    passport.read(path.parent)


def hub_record(path):
    hub.kept(PIN, path.parent, ("config.json",))


def safetensors(tensors):
    head = json.dumps(tensors).encode()
    return struct.pack("<Q", len(head)) + head


INDEX = {"metadata": {"total_size": 8}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}
INDEX["weight_map"]["b"] = "model-00002-of-00002.safetensors"
VERIFIED = {"size": 3, "sha256": "0f", "mtime_ns": 5}
RECORD = {
    "repo": PIN.repo,
    "revision": PIN.revision,
    "patterns": ["config.json"],
    "files": {"config.json": VERIFIED},
}
READERS = {
    "index": Reader(
        weights.INDEX,
        json.dumps(INDEX).encode(),
        index,
        "json",
        tuple(
            json.dumps({"weight_map": {"a": name}}).encode()
            for name in ("../x.safetensors", "/etc/passwd", "..", ".", "", "a\0", "x" * 300, "\ud800")
        ),
    ),
    "safetensors": Reader(
        "model.safetensors",
        safetensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}) + b"abcd",
        lambda path: weights.shards(path.parent),
        "bytes",
        (
            struct.pack("<Q", 2**63) + b"{}",
            safetensors({"a": {"dtype": [], "shape": [1], "data_offsets": [0, 4]}}) + b"abcd",
            safetensors({"a\x1b[2J\n": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}) + b"abcd",
            safetensors({"a": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}}) + b"abcd",
            safetensors({"a": {"dtype": "F32", "shape": [1 << 62] * 16, "data_offsets": [0, 4]}}) + b"abcd",
            safetensors({"__metadata__": 3}),
        ),
    ),
    "hub record": Reader(
        hub.RECORD,
        json.dumps(RECORD).encode(),
        hub_record,
        "json",
        (json.dumps({**RECORD, "files": {"../../config.json": VERIFIED}}).encode(), b"[]", b'{"repo": 1}'),
    ),
}
# Readers whose good file is the tiny model's own, and what of its folder stands beside it.
OF_THE_BASE = {
    "config.json": config,
    "tokenizer.json": tokenizer,
    "tokenizer_config.json": tokenizer_settings,
}


@pytest.mark.parametrize("name", READERS)
def test_a_file_of_a_model_is_read_or_refused_in_a_line(name, tmp_path):
    attack(READERS[name], tmp_path / "model")


@pytest.mark.parametrize("name", OF_THE_BASE)
def test_a_configuration_is_read_or_refused_in_a_line(name, base, tmp_path):
    good = (base / name).read_bytes()
    syntax = "json" if len(good) < 100_000 else "bytes"
    attack(Reader(name, good, OF_THE_BASE[name], syntax), tmp_path / "model")


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
def test_a_passport_is_drawn_up_or_refused_in_a_line(name, base, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for path in base.iterdir():
        os.link(path, folder / path.name)
    (folder / name).unlink()
    attack(Reader(name, (base / name).read_bytes(), station, "json"), folder)


@pytest.mark.parametrize("kind", ["pipe", "device", "loop", "folder"])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", weights.INDEX])
def test_what_is_no_file_is_refused_at_once(kind, name, base, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for path in base.iterdir():
        (folder / path.name).symlink_to(path)
    path = folder / name
    path.unlink(missing_ok=True)
    {
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "loop": lambda: path.symlink_to(path.name),
        "folder": path.mkdir,
    }[kind]()
    assert refusal(
        lambda: (weights.shards(folder), rope.parse(folder / "config.json"), passport.read(folder))
    )


@pytest.mark.parametrize("name", ["/etc/x.json", "../x.json", "a/../../x.json", "a\x1b[2J.json", "a\nb.json"])
def test_a_hub_that_lists_a_file_outside_its_folder_is_refused(name, monkeypatch):
    import huggingface_hub
    from huggingface_hub.hf_api import RepoFile

    entry = RepoFile(path=name, size=1, oid="0" * 40)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_tree", lambda *_, **__: [entry])
    assert "do not use this hub" in refusal(lambda: hub.listing(PIN, "model", ("*",)))
