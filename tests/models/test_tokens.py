"""Tokenizer files of every spelling, and of no known one."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omr.errors import OmrError
from omr.models import tokens

FUZZ = settings(max_examples=150, derandomize=True, deadline=None, database=None)
PLAIN = {
    "model": {"vocab": {"a": 0, "b": 1}, "merges": ["a b"]},
    "added_tokens": [{"content": "<e>", "id": 2}],
}


def test_spellings_of_one_vocabulary(tmp_path):
    """Merges as pairs or as text, in any order of the table."""
    pairs = {"vocab": {"b": 1, "a": 0}, "merges": [["a", "b"]]}
    found = []
    for value in (PLAIN, {**PLAIN, "model": pairs}):
        (tmp_path / "tokenizer.json").write_text(json.dumps(value))
        found.append(tokens.vocabulary(tmp_path))
    assert found[0] == found[1] and found[0][0] == {"a": 0, "b": 1, "<e>": 2}


NONE = [
    {"model": None},
    {"model": []},
    {"model": "BPE"},
    {"model": {"vocab": [["a", -1.5]]}},
    {"model": {"vocab": {"a": "0"}}},
    {"model": {"vocab": {"a": None}}},
    {"model": {"vocab": {"a": True}}},
    {"model": {"vocab": {"a": -1}}},
    {"model": {"vocab": {"a": 0}, "merges": 3}},
    {"model": {"vocab": {"a": 0}, "merges": [[1, 2]]}},
    {"model": {"vocab": {"a": 0}, "merges": [None]}},
    {"added_tokens": 3},
    {"added_tokens": {"a": 1}},
    {"added_tokens": [3]},
    {"added_tokens": [{"id": 3}]},
    {"added_tokens": [{"content": "x"}]},
    {"added_tokens": [{"content": ["x"], "id": 3}]},
    {"added_tokens": [{"content": 3, "id": 3}]},
]


@pytest.mark.parametrize("keys", NONE, ids=str)
def test_a_tokenizer_without_a_table(tmp_path, keys):
    (tmp_path / "tokenizer.json").write_text(json.dumps({**PLAIN, **keys}))
    with pytest.raises(OmrError, match=r"tokenizer\.json: has no table of tokens and their ids; bring"):
        tokens.vocabulary(tmp_path)


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        (3, [3]),
        ([3, 1], [1, 3]),
        ([], []),
        (None, None),
        ("x", "x"),
        (True, True),
        ([3, None], [3, None]),
        (-1, -1),
    ],
)
def test_end_tokens(value, ids):
    assert tokens.ids(value) == ids and type(tokens.ids(value)) is type(ids)


@pytest.mark.parametrize(
    ("token", "text"),
    [
        ("x", "x"),
        ({"content": "x"}, "x"),
        ({}, None),
        (None, None),
        ([1], "no text ([1])"),
        ({"content": 3}, "no text (3)"),
    ],
)
def test_the_text_of_a_token(token, text):
    assert tokens.text(token) == text


def test_two_homes_of_the_template(tmp_path):
    named = [{"name": "other", "template": "y"}, 3, {"name": "default", "template": "x"}]
    inside = tokens.template(tmp_path, {"chat_template": "x"})
    assert inside == tokens.template(tmp_path, {"chat_template": named})
    assert tokens.template(tmp_path, {}) is None and tokens.template(tmp_path, {"chat_template": []}) is None
    (tmp_path / "chat_template.jinja").write_text("x\n")
    assert tokens.template(tmp_path, {"chat_template": "x"}) == inside
    assert " or " in tokens.template(tmp_path, {"chat_template": "y"})


@pytest.mark.parametrize("value", [3, {}, {"a": 1}, True, [{"name": "default", "template": 3}]], ids=str)
def test_a_template_that_is_no_text(tmp_path, value):
    with pytest.raises(OmrError, match=r"tokenizer_config\.json: chat_template is no text; bring"):
        tokens.template(tmp_path, {"chat_template": value})


def test_a_template_of_other_bytes(tmp_path):
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(OmrError, match=r"chat_template\.jinja: is no text in UTF-8"):
        tokens.template(tmp_path, {})


LEAF = st.one_of(st.none(), st.booleans(), st.integers(-2, 5), st.text(max_size=3))
ANY = st.recursive(
    LEAF, lambda each: st.lists(each, max_size=2) | st.dictionaries(st.text(max_size=3), each, max_size=2)
)
ADDED = st.lists(st.one_of(ANY, st.fixed_dictionaries({}, optional={"content": ANY, "id": ANY})), max_size=2)
MODEL = st.one_of(ANY, st.fixed_dictionaries({}, optional={"vocab": ANY, "merges": ANY}))


@pytest.mark.slow
@FUZZ
@given(
    value=st.fixed_dictionaries({}, optional={"model": MODEL, "added_tokens": st.one_of(ANY, ADDED)}),
    chat=ANY,
)
def test_any_tokenizer_is_read_or_refused_in_one_line(tmp_path_factory, value, chat):
    folder = tmp_path_factory.getbasetemp() / "fuzz-tokens"
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(value))
    for read in (lambda: tokens.vocabulary(folder), lambda: tokens.template(folder, {"chat_template": chat})):
        try:
            read()
        except OmrError as error:
            assert str(error).isprintable()
