"""What a user writes or was given: .env, OVERRIDES, and the recipe file."""

import os

import pytest

from omr import settings
from omr.errors import RequestError
from omr.recipe import reader as recipe_reader
from omr.settings import ROOT
from omr.training.nemo_rl import keys

from .kit import Reader, attack, refusal


def overrides(path):
    """The file's text as OVERRIDES; a variable's text has no NUL, and any other byte."""
    text = os.fsdecode(path.read_bytes().replace(b"\0", b""))
    values = {}
    for key, value in keys.parse_overrides(text):
        keys.put(values, key, value)
    list(keys.flatten(values))


ENV = b"""# facts
ACCOUNT=physics
PARTITION='gpu'
export TIME="4:00:00"
MOUNTS=/scratch:/scratch:ro
HF_TOKEN=hf_abc # a secret
"""
READERS = {
    ".env": Reader(
        "env",
        ENV,
        settings.read,
        "bytes",
        (
            b"ACCOUNT=$(touch pwned)\n",
            b"NAME=`touch pwned`\n",
            b"NAME=a\0b",
            b"NAME='\n" * 2000,
            b"A" * 3_000_000,
        ),
    ),
    "OVERRIDES": Reader(
        "overrides",
        b"policy.megatron_cfg.optimizer.lr=1e-4 ++sft.max_num_steps=10 policy.model_name='a b'",
        overrides,
        "bytes",
        (
            b"sft.seed=2001-99-99",
            b"sft.seed=1 sft.seed=2001-99-99",
            b"sft.seed=" + b"[" * 5000,
            b"sft.seed=" + b"9" * 5000,
            b"sft.seed='&a [*a]'",
            b"sft.seed='!!python/object/apply:os.system [touch pwned]'",
            b"sft.seed=!!timestamp",
            b"sft.seed=!!int",
            b"sft.seed='{}: 1'",
            b"sft.seed='!!binary \xff'",
            b"sft.seed=1 sft=2",
            b"a\x1b[2Jb=1",
        ),
    ),
    "recipe": Reader(
        "mine.toml",
        (ROOT / "omr/recipes/openmathreasoning.toml").read_bytes(),
        recipe_reader.read,
        "bytes",
        (
            b"a = " + b"[" * 5000,
            b"a = " + b"1" * 5000,
            b"[models.x]\n" * 20_000,
            b"a = 2001-99-99",
            b"a = inf",
        ),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_what_a_user_writes_is_taken_or_refused_in_a_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    attack(READERS[name], tmp_path / "x")


@pytest.mark.parametrize("value", ["2001-99-99", "[[", "!!timestamp x", "9" * 5000, "&a [*a]"])
def test_a_value_that_is_no_yaml_is_said_of_its_key(value):
    """The value before it was taken in its place once."""
    with pytest.raises(RequestError, match="is not YAML"):
        keys.parse_overrides(f"sft.max_num_steps=10 sft.seed='{value}'")


def test_a_pipe_and_a_device_in_a_records_place_are_not_waited_for(tmp_path):
    from omr import files
    from omr.models import rope

    os.mkfifo(tmp_path / "a.json")
    (tmp_path / "b.json").symlink_to("/dev/zero")
    (tmp_path / "c.json").mkdir()
    with (tmp_path / "d.json").open("wb") as handle:
        handle.truncate(100 << 30)  # all holes
    for path in sorted(tmp_path.glob("*.json")):
        for read in (files.read_json, rope.parse):
            assert str(path) in refusal(lambda read=read, path=path: read(path))
