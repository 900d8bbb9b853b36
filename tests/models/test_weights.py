"""Headers of safetensors files and their index: every fault is one line; a fuzzer for both."""

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omr.errors import OmrError
from omr.models import weights

FUZZ = settings(max_examples=150, derandomize=True, deadline=None, database=None)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def entry(shape=(1,), offsets=(0, 4), dtype="F32", **more):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


def write(path, header, data=b"1234"):
    """A file of this header (JSON text, bytes or a value) and this data."""
    text = header if isinstance(header, str | bytes) else json.dumps(header)
    text = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def refusal(path):
    """The one line that a file is refused with."""
    with pytest.raises(OmrError) as error:
        weights.shard(path)
    line = str(error.value)
    assert line.startswith(f"{path}: ") and line.isprintable() and len(line) < len(str(path)) + 400
    return line


def test_a_whole_file(tmp_path):
    header = {"__metadata__": {"format": "pt"}, "a": entry(), "none": entry((0, 3), (4, 4))}
    part = weights.shard(write(tmp_path / "a.safetensors", header))
    assert [(t.name, t.shape) for t in part.tensors] == [("a", (1,)), ("none", (0, 3))]
    assert part.size == (tmp_path / "a.safetensors").stat().st_size
    assert weights.shard(write(tmp_path / "b.safetensors", {}, b"")).tensors == ()


NO_PARSE = "has a header that does not parse"
DEEP = "[" * 100_000
ODD = {
    "two tensors in one place": ({"a": entry(), "b": entry()}, "a gap or an overlap before b"),
    "a gap": ({"a": entry(), "b": entry((1,), (8, 12))}, "a gap or an overlap before b"),
    "a begin that is not the data's": ({"a": entry((1,), (4, 8))}, "a gap or an overlap before a"),
    "beyond the end": ({"a": entry((2,), (0, 8))}, "where its header says"),
    "a name twice": (f'{{"a": {json.dumps(entry())}, "a": {json.dumps(entry())}}}', "(a is there twice)"),
    "a key twice": ('{"a": {"dtype": "F32", "dtype": "F16"}}', "(dtype is there twice)"),
    "a name with a line end": ({"a\nb": entry()}, r"it names a tensor 'a\nb'"),
    "half a surrogate": ({"\ud800": entry()}, r"it names a tensor '\ud800'"),
    "an endless name": ({"a" * 5000: entry()}, "it names a tensor aaa"),
    "a type of quantised weights": ({"a": entry(dtype="F4")}, "a has the number type F4; the recipe trains"),
    "no type at all": ({"a": entry(dtype=None)}, "has the number type None"),
    "a list as a type": ({"a": entry(dtype=["F32"])}, NO_PARSE),
    "negative sizes": ({"a": entry((-1, -1))}, "a has no shape or offsets"),
    "huge sizes": ({"a": entry((10**30,))}, "a has no shape or offsets"),
    "a product of huge sizes": ({"a": entry((2**62,) * 16)}, "a has other offsets than its shape needs"),
    "endless dimensions": ({"a": entry((1,) * 10_000)}, "a has no shape or offsets"),
    "true for one": ({"a": entry((True,))}, "a has no shape or offsets"),
    "a size that is no whole number": ({"a": entry((1.0,))}, "a has no shape or offsets"),
    "a size that is no number": ({"a": entry(("1",))}, "a has no shape or offsets"),
    "NaN": ('{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 4]}}', "no shape or offsets"),
    "true as an offset": ({"a": entry((1,), (False, 4))}, "a has no shape or offsets"),
    "offsets the wrong way": ({"a": entry((1,), (4, 0))}, "a has other offsets than its shape needs"),
    "negative offsets": ({"a": entry((1,), (-4, 0))}, "a has no shape or offsets"),
    "three offsets": ({"a": entry((1,), (0, 4, 8))}, NO_PARSE),
    "a shape that is none": ({"a": entry(7)}, NO_PARSE),
    "no shape": ({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, NO_PARSE),
    "a tensor that is none": ({"a": [1]}, NO_PARSE),
    "no object": ([1], NO_PARSE),
    "metadata that is no text": ({"__metadata__": {"a": 1}, "b": entry()}, "its __metadata__ is no text"),
    "metadata that is no object": ({"__metadata__": 3}, NO_PARSE),
    "other bytes": (b"\xff\xfe{}", NO_PARSE),
    "another encoding": ("{}".encode("utf-16"), NO_PARSE),
    "no JSON": ("{", NO_PARSE),
    "nested without end": (DEEP, NO_PARSE),
    "a number without end": ('{"a": ' + "9" * 5000 + "}", NO_PARSE),
}


@pytest.mark.parametrize("name", ODD)
def test_a_header_that_is_refused(tmp_path, name):
    header, line = ODD[name]
    assert line in refusal(write(tmp_path / "model.safetensors", header))


def test_a_header_of_100_MB(tmp_path):
    """Refused by its length alone: to parse it would take gigabytes."""
    path = tmp_path / "model.safetensors"
    with path.open("wb") as out:
        out.write(struct.pack("<Q", 100_000_000) + b"{")
        out.truncate(100_000_100)
    assert "has a header of 100,000,000 bytes" in refusal(path)


@pytest.mark.parametrize(
    "data", [b"", b"1234567", struct.pack("<Q", 2**64 - 1), struct.pack("<Q", 9) + b"{}"]
)
def test_a_file_that_is_cut(tmp_path, data):
    (tmp_path / "a.safetensors").write_bytes(data)
    assert "is no whole safetensors file" in refusal(tmp_path / "a.safetensors")


def test_a_git_lfs_pointer(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(POINTER)
    assert refusal(tmp_path / "a.safetensors").endswith(
        f"is a git-lfs pointer in place of the file; run git lfs pull in {tmp_path},"
        " or make model MODEL=… FORCE=1"
    )


INDEXES = [
    ("[]", "is no JSON object"),
    ("{}", "has no weight_map"),
    ('{"weight_map": ["a"]}', "has no weight_map"),
    ('{"weight_map": {"a": 3}}', "lists 3, which is no file of"),
    ('{"weight_map": {"a": ["a.safetensors"]}}', "lists ['a.safetensors'], which is no file of"),
    ('{"weight_map": {"a": null}}', "lists None, which is no file of"),
    ('{"weight_map": {"a": ""}}', "lists , which is no file of"),
    ('{"weight_map": {"a": ".."}}', "lists .., which is no file of"),
    ('{"weight_map": {"a": "../a.safetensors"}}', "lists ../a.safetensors, which is no file of"),
    ('{"weight_map": {"a": "/etc/passwd"}}', "lists /etc/passwd, which is no file of"),
    ('{"weight_map": {"a": "a\\n.safetensors"}}', r"lists 'a\n.safetensors', which is no file of"),
    ('{"weight_map": {"a": "b.safetensors"}}', "b.safetensors: is missing, model.safetensors.index.json"),
    ('{"weight_map": {"a": "a.safetensors", "a": "a.safetensors"}}', "has a twice"),
    ('{"weight_map": {"a": "a.safetensors", "b\\n": "a.safetensors"}}', r"'b\n' is to be in a.safetensors"),
    ('{"weight_map": ' + DEEP, "is not JSON"),
    (POINTER.decode(), "is a git-lfs pointer in place of the file"),
]


@pytest.mark.parametrize(("text", "line"), INDEXES, ids=lambda value: value[:45])
def test_an_index_that_is_refused(tmp_path, text, line):
    write(tmp_path / "a.safetensors", {"a": entry()})
    (tmp_path / weights.INDEX).write_text(text)
    with pytest.raises(OmrError) as error:
        weights.shards(tmp_path)
    assert line in str(error.value) and "\n" not in str(error.value)


def test_hidden_files_are_no_part_of_a_model(tmp_path):
    """A Mac puts ._<name> beside each file that it copies to a foreign disk."""
    write(tmp_path / "model.safetensors", {"a": entry()})
    for name in ("._model.safetensors", "._modeling.py", ".x.bin", "._config.json", "._tokenizer.json"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    (part,) = weights.shards(tmp_path)
    assert part.path.name == "model.safetensors"
    assert weights.model_files(tmp_path, [part]) == [part.path]


@pytest.mark.parametrize(
    "other", [("F32", (2,), b"12345678"), ("F32", (2,), b"12345679"), ("F16", (4,), b"12345678")]
)
def test_the_same_bytes(tmp_path, other):
    dtype, shape, data = other
    header = {"a": entry((2,), (0, 8)), "b": entry(shape, (8, 16), dtype)}
    write(tmp_path / "a.safetensors", header, b"12345678" + data)
    a, b = weights.shard(tmp_path / "a.safetensors").tensors
    assert weights.same(a, b) == (other == ("F32", (2,), b"12345678"))


NUMBERS = st.one_of(
    st.integers(), st.integers(-2, 12), st.booleans(), st.floats(), st.none(), st.text(max_size=3)
)
TENSOR = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.one_of(st.sampled_from([*weights.SIZES, "F4", "f32"]), NUMBERS),
        "shape": st.one_of(st.lists(NUMBERS, max_size=4), NUMBERS),
        "data_offsets": st.one_of(st.lists(NUMBERS, max_size=3), NUMBERS),
        "extra": NUMBERS,
    },
)
NAMES = st.one_of(st.sampled_from(["a", "../a", "/a", "__metadata__"]), st.text(max_size=5))
HEADERS = st.one_of(
    st.dictionaries(NAMES, st.one_of(TENSOR, NUMBERS), max_size=4).map(json.dumps),
    st.binary(max_size=60),
    st.text(alphabet='{}[]":,a1', max_size=60),
)


@pytest.mark.slow
@FUZZ
@given(header=HEADERS, data=st.binary(max_size=24))
def test_any_header_is_read_or_refused_in_one_line(tmp_path_factory, header, data):
    path = write(tmp_path_factory.getbasetemp() / "fuzz.safetensors", header, data)
    try:
        part = weights.shard(path)
    except OmrError as error:
        assert str(error).isprintable()
    else:
        assert sum(t.end - t.start for t in part.tensors) == len(data)
        assert all(type(n) is int and n >= 0 for t in part.tensors for n in t.shape)


ANY = st.recursive(
    NUMBERS, lambda each: st.lists(each, max_size=2) | st.dictionaries(NAMES, each, max_size=2)
)


@pytest.mark.slow
@FUZZ
@given(value=st.one_of(ANY, st.builds(lambda v: {"weight_map": v}, ANY)))
def test_any_index_is_read_or_refused_in_one_line(tmp_path_factory, value):
    folder = tmp_path_factory.getbasetemp() / "fuzz-index"
    folder.mkdir(exist_ok=True)
    write(folder / "a.safetensors", {"a": entry()})
    (folder / weights.INDEX).write_text(json.dumps(value))
    with pytest.raises(OmrError) as error:
        weights.shards(folder)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("names", "index", "written"),
    [
        (["model.safetensors"], None, False),
        (["weights.safetensors"], None, True),
        (["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"], None, True),
        (["a.safetensors"], {"weight_map": {"a": "a.safetensors"}}, True),
        (["a.safetensors"], {"metadata": {"by": "x"}, "weight_map": {"a": "a.safetensors"}}, False),
    ],
)
def test_shards_get_the_index_that_a_loader_needs(tmp_path, names, index, written):
    for name, tensor in zip(names, "ab", strict=False):
        write(tmp_path / name, {tensor: entry()})
    path = tmp_path / weights.INDEX
    if index:
        path.write_text(json.dumps(index))
    parts = weights.shards(tmp_path)
    assert weights.complete_index(tmp_path, parts) is written
    if written:
        assert json.loads(path.read_text()) == weights.index_of(parts)
    assert path.exists() is (written or index is not None)
