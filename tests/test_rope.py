"""The long-context patch: every spelling of config.json that is known, and what must come out of it."""

import json
import subprocess

import pytest

from omr import recipe
from omr.errors import OmrError
from omr.models import rope

# As the Math models' repositories have it.
SEVEN = recipe.model("7b")
PUBLISHED = """{
  "architectures": [
    "Qwen2ForCausalLM"
  ],
  "attention_dropout": 0.0,
  "bos_token_id": 151643,
  "eos_token_id": 151643,
  "hidden_act": "silu",
  "hidden_size": 3584,
  "initializer_range": 0.02,
  "intermediate_size": 18944,
  "max_position_embeddings": 4096,
  "max_window_layers": 28,
  "model_type": "qwen2",
  "num_attention_heads": 28,
  "num_hidden_layers": 28,
  "num_key_value_heads": 4,
  "rms_norm_eps": 1e-06,
  "rope_theta": 10000,
  "sliding_window": 4096,
  "tie_word_embeddings": false,
  "torch_dtype": "bfloat16",
  "transformers_version": "4.44.0",
  "use_cache": true,
  "use_mrope": false,
  "use_sliding_window": false,
  "vocab_size": 152064
}
"""
PATCHED = PUBLISHED.replace('embeddings": 4096', 'embeddings": 131072').replace(": 10000,", ": 500000.0,")
BOTH = ["max_position_embeddings 4096 -> 131072", "rope_theta 10000 -> 500000.0"]


def edit(text, *pairs):
    """`text` with each old replaced by its new; every old must be there."""
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


# name: (file before, file after, what patch reports)
TAKEN = {
    "as published": (PUBLISHED, PATCHED, BOTH),
    "patched already": (PATCHED, PATCHED, []),
    "patched, spelt as an integer": (*[edit(PATCHED, ("500000.0", "500000"))] * 2, []),
    "half patched: context only": (edit(PUBLISHED, ('gs": 4096', 'gs": 131072')), PATCHED, BOTH[1:]),
    "half patched: rope only": (edit(PUBLISHED, (": 10000,", ": 500000.0,")), PATCHED, BOTH[:1]),
    "the Instruct models' spelling": (
        edit(PUBLISHED, (": 10000,", ": 10000.0,")),
        PATCHED,
        [BOTH[0], "rope_theta 10000.0 -> 500000.0"],
    ),
    "another number for the same": (
        edit(PUBLISHED, (": 10000,", ": 1e4,")),
        PATCHED,
        [BOTH[0], "rope_theta 10000.0 -> 500000.0"],
    ),
    "last keys without a comma": (
        '{"vocab_size": 1, "max_position_embeddings": 4096, "rope_theta": 10000}',
        '{"vocab_size": 1, "max_position_embeddings": 131072, "rope_theta": 500000.0}',
        BOTH,
    ),
    "context last": (
        '{\n "rope_theta": 10000,\n "max_position_embeddings": 4096\n}',
        '{\n "rope_theta": 500000.0,\n "max_position_embeddings": 131072\n}',
        BOTH,
    ),
    "minified": (
        '{"max_position_embeddings":4096,"rope_theta":10000,"sliding_window":4096}',
        '{"max_position_embeddings":131072,"rope_theta":500000.0,"sliding_window":4096}',
        BOTH,
    ),
    "four spaces, blanks around colons, no final newline": (
        '{\n    "max_position_embeddings" :  4096 ,\n    "rope_theta"\t:\t10000\n}',
        '{\n    "max_position_embeddings" :  131072 ,\n    "rope_theta"\t:\t500000.0\n}',
        BOTH,
    ),
    "a value on a line of its own": (
        '{"max_position_embeddings":\n4096,\n"rope_theta"\n:\n10000\n}\n',
        '{"max_position_embeddings":\n131072,\n"rope_theta"\n:\n500000.0\n}\n',
        BOTH,
    ),
    "windows line ends": (PUBLISHED.replace("\n", "\r\n"), PATCHED.replace("\n", "\r\n"), BOTH),
    "a longer key of the same end": (
        edit(PUBLISHED, ('  "use_cache"', '  "original_max_position_embeddings": 4096,\n  "use_cache"')),
        edit(PATCHED, ('  "use_cache"', '  "original_max_position_embeddings": 4096,\n  "use_cache"')),
        BOTH,
    ),
    "the keys' text inside a value": (
        edit(PUBLISHED, ('"silu"', r'"\"rope_theta\": 10000,"')),
        edit(PATCHED, ('"silu"', r'"\"rope_theta\": 10000,"')),
        BOTH,
    ),
    "both homes, as transformers 5 may leave them": (
        edit(
            PUBLISHED,
            (
                '  "rope_theta"',
                '  "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},\n  "rope_theta"',
            ),
        ),
        edit(
            PATCHED,
            (
                '  "rope_theta"',
                '  "rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"},\n  "rope_theta"',
            ),
        ),
        [*BOTH, "rope_parameters.rope_theta 10000.0 -> 500000.0"],
    ),
    "half patched between the homes": (
        edit(
            PATCHED,
            (
                '  "rope_theta"',
                '  "rope_parameters": {"rope_theta": 10000, "rope_type": "default"},\n  "rope_theta"',
            ),
        ),
        edit(
            PATCHED,
            (
                '  "rope_theta"',
                '  "rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"},\n  "rope_theta"',
            ),
        ),
        ["rope_parameters.rope_theta 10000 -> 500000.0"],
    ),
    "as transformers 5 saves it: the top level is added": (
        edit(
            PUBLISHED,
            (
                '  "rope_theta": 10000,',
                '  "rope_parameters": {\n    "rope_theta": 10000.0,\n    "rope_type": "default"\n  },',
            ),
        ),
        edit(
            PATCHED,
            (
                '  "rope_theta": 500000.0,',
                '  "rope_theta": 500000.0,\n  "rope_parameters": {\n'
                '    "rope_theta": 500000.0,\n    "rope_type": "default"\n  },',
            ),
        ),
        [BOTH[0], "rope_theta absent -> 500000.0", "rope_parameters.rope_theta 10000.0 -> 500000.0"],
    ),
    "rope_scaling is null": (
        edit(PUBLISHED, ('  "rope_theta"', '  "rope_scaling": null,\n  "rope_theta"')),
        edit(PATCHED, ('  "rope_theta"', '  "rope_scaling": null,\n  "rope_theta"')),
        BOTH,
    ),
}

# name: (file, what the one line must say)
REFUSED = {
    "14B's rope": (edit(PUBLISHED, (": 10000,", ": 1000000.0,")), "rope_theta is 1000000.0, neither"),
    "another context": (
        edit(PUBLISHED, ('gs": 4096', 'gs": 32768')),
        "max_position_embeddings is 32768, neither",
    ),
    "a context that is no whole number": (
        edit(PUBLISHED, ('gs": 4096', 'gs": 4096.0')),
        "is 4096.0, neither",
    ),
    "a number in quotes": (edit(PUBLISHED, (": 10000,", ': "10000",')), "rope_theta is '10000', neither"),
    "true": (edit(PUBLISHED, (": 10000,", ": true,")), "rope_theta is True, neither"),
    "null": (edit(PUBLISHED, (": 10000,", ": null,")), "rope_theta is None, neither"),
    "no rope": (edit(PUBLISHED, ('  "rope_theta": 10000,\n', "")), "has no rope_theta"),
    "no context": (
        edit(PUBLISHED, ('  "max_position_embeddings": 4096,\n', "")),
        "has no max_position_embeddings",
    ),
    "a key twice": (
        edit(PUBLISHED, ('  "vocab_size"', '  "rope_theta": 500000.0,\n  "vocab_size"')),
        "rope_theta twice",
    ),
    "yarn": (
        edit(
            PUBLISHED,
            ('  "rope_theta"', '  "rope_scaling": {"type": "yarn", "factor": 4.0},\n  "rope_theta"'),
        ),
        "rope_scaling.type is yarn",
    ),
    "linear in rope_parameters": (
        edit(
            PUBLISHED,
            (
                '  "rope_theta"',
                '  "rope_parameters": {"rope_type": "linear", "rope_theta": 10000},\n  "rope_theta"',
            ),
        ),
        "rope_parameters.rope_type is linear",
    ),
    "the homes disagree beyond repair": (
        edit(PUBLISHED, ('  "rope_theta"', '  "rope_parameters": {"rope_theta": 20000},\n  "rope_theta"')),
        "rope_parameters.rope_theta is 20000, neither",
    ),
    "the key in a room of its own": (
        edit(PUBLISHED, ('  "vocab_size"', '  "text_config": {"rope_theta": 10000},\n  "vocab_size"')),
        "sed would change text_config",
    ),
    "no JSON": (PUBLISHED[:-4], "is not JSON"),
    "a byte order mark": ("\ufeff" + PUBLISHED, "is not JSON"),
    "no object": ("[1]", "is no JSON object"),
    "empty": ("", "is not JSON"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_patch(tmp_path, name):
    before, after, report = TAKEN[name]
    path = tmp_path / "config.json"
    path.write_bytes(before.encode())
    assert rope.patch(path, SEVEN) == report
    assert path.read_bytes() == after.encode(), "only the two numbers may change"
    assert rope.patch(path, SEVEN) == [], "a second time changes nothing"
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
    found = rope.places(rope.parse(path))
    assert {v for k, v in found.items() if k.endswith("theta")} == {500000.0}
    assert found["max_position_embeddings"] == 131072
    assert "rope_theta" in found


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path, name):
    text, line = REFUSED[name]
    path = tmp_path / "config.json"
    path.write_bytes(text.encode())
    with pytest.raises(OmrError) as error:
        rope.patch(path, SEVEN)
    assert line in str(error.value) and str(path) in str(error.value)
    assert path.read_bytes() == text.encode()
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_a_missing_file(tmp_path):
    with pytest.raises(OmrError, match=r"config\.json: is missing"):
        rope.patch(tmp_path / "config.json", SEVEN)


def test_the_recipes_own_commands_give_the_same_bytes(tmp_path):
    """The published two lines of sed, on the published file."""
    path = tmp_path / "config.json"
    path.write_text(PUBLISHED)
    for old, new in (("4096", "131072"), ("10000", "500000.0")):
        key = "max_position_embeddings" if old == "4096" else "rope_theta"
        subprocess.run(["sed", "-i", f's/"{key}": {old},/"{key}": {new},/g', path], check=True)
    assert path.read_text() == PATCHED


SHIPPED = edit(PUBLISHED, ('gs": 4096', 'gs": 131072'), (": 10000,", ": 1000000.0,"))
CHECKS = [
    ("14b", SHIPPED, None),
    ("32b", SHIPPED, None),
    ("14b", PATCHED, "rope_theta is 500000.0, 14b needs 1000000.0 (14b is not to be patched"),
    ("14b", PUBLISHED, "max_position_embeddings is 4096, 14b needs 131072"),
    ("7b", PATCHED, None),
    ("7b", PUBLISHED, "max_position_embeddings is 4096, 7b needs 131072; run make model MODEL=7b FORCE=1"),
    (
        "7b",
        TAKEN["half patched between the homes"][0],
        "rope_parameters.rope_theta is 10000, 7b needs 500000.0",
    ),
    ("7b", edit(PATCHED, ('  "rope_theta": 500000.0,\n', "")), "has no rope_theta"),
]


@pytest.mark.parametrize(("model", "text", "line"), CHECKS)
def test_check(tmp_path, model, text, line):
    (tmp_path / "config.json").write_text(text)
    if line is None:
        rope.check(tmp_path, recipe.model(model))
    else:
        with pytest.raises(OmrError) as error:
            rope.check(tmp_path, recipe.model(model))
        assert line in str(error.value)


WRITTEN = [
    ({"rope_theta": 500000.0}, True),
    ({"rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}}, True),
    ({"rope_theta": 500000.0, "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}}, False),
]


@pytest.mark.parametrize(("homes", "changed"), WRITTEN)
def test_write_both(tmp_path, homes, changed):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"max_position_embeddings": 131072, **homes}))
    assert rope.write_both(tmp_path, SEVEN) is changed
    config = json.loads(path.read_text())
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 500000.0
    assert config["rope_parameters"]["rope_type"] == "default"


@pytest.mark.parametrize(
    ("homes", "line"),
    [
        (
            {"rope_theta": 10000, "rope_parameters": {"rope_theta": 500000.0}},
            "rope_theta 10000 and rope_parameters",
        ),
        ({}, "no rope_theta at all"),
        (
            {"rope_theta": 500000.0, "rope_parameters": {"rope_theta": 500000.0, "rope_type": "yarn"}},
            "rope_type is yarn",
        ),
    ],
)
def test_write_both_refuses(tmp_path, homes, line):
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 131072, **homes}))
    with pytest.raises(OmrError, match=line):
        rope.write_both(tmp_path, SEVEN)


@pytest.mark.slow
def test_the_installed_transformers_reads_the_patch(tmp_path):
    (tmp_path / "config.json").write_text(PUBLISHED)
    with pytest.raises(OmrError, match="7b needs 131072"):
        rope.prove(tmp_path, recipe.model("7b"))
    rope.patch(tmp_path / "config.json", SEVEN)
    rope.prove(tmp_path, recipe.model("7b"))
