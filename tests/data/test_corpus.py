"""Which corpus it is: its shards' names, footers and counts of rows, what is lost of it, and what is said."""

import base64
import json
import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omr import files, recipe
from omr.data import corpus, rows
from omr.errors import OmrError
from omr.tiny import corpus as tiny
from tests.data.kit import COLUMNS, make
from tests.data.test_same_rows import lines

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
SCHEMA = pa.schema([(name, pa.string()) for name in COLUMNS.texts] + [("used_in_kaggle", pa.bool_())])


def table(split="cot", count=5, seed=0):
    """Rows of the tiny corpus."""
    return pa.Table.from_pylist(list(tiny.split_rows(split, count, seed)), schema=SCHEMA)


def shard(path, count=5, seed=0, **how):
    """A shard of `count` rows; `seed` decides its content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(path.name.split("-")[0], count, seed), path, **how)
    return path


def refusal(function, *arguments):
    """The one line of what is refused."""
    with pytest.raises(OmrError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


# Names -------------------------------------------------------------------------------------------------

THREE = [f"cot-0000{n}-of-00003.parquet" for n in range(3)]
ODD = "cot-00001-of-00003 (1).parquet"


def test_links_to_folders_are_followed_once(tmp_path):
    for name in THREE:
        shard(tmp_path / "disk" / name)
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "data").symlink_to(tmp_path / "disk")
    (raw / "again").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "round").symlink_to(raw)
    assert list(corpus.listed(raw, "cot")) == THREE


@pytest.mark.parametrize(
    "names, partial, said",
    [
        (THREE, False, None),
        (THREE[:2], True, None),
        (["cot-mine.parquet", "cot-more.parquet"], False, None),
        ([*THREE, "._cot-00001-of-00003.parquet", ".cache/cot-00001-of-00003.parquet"], False, None),
        ([*THREE, "cot-00001-of-00003.parquet.part", "tir-00000-of-00001.parquet"], False, None),
        (THREE[:2], False, "{}: cot shards 00002 are missing; put the published one there, or unset RAW"),
        (THREE[1:], True, "{}: cot shards 00000 are missing"),
        ([], False, "{}: has no cot-*.parquet; leave cot out of MODES, or put the published one there"),
        ([*THREE, ODD], False, "{}/" + ODD + ": has no number as the cot shards beside it; number it"),
        ([THREE[0], ODD], True, "{}/" + ODD + ": has no number"),
        ([*THREE, "cot-extra-00001-of-00003.parquet"], False, "/cot-extra-00001-of-00003.parquet: has no"),
        ([*THREE, "cot-0000٣-of-00003.parquet"], False, "{}/cot-0000٣-of-00003.parquet: has no number"),
        ([*THREE, "cot-00003-of-00003.parquet"], False, "-of-00003.parquet: the last of 3 shards is 00002"),
        ([*THREE, "cot-00003-of-00004.parquet"], False, "{}: mixes cot shards of 3 and 4; keep one set"),
        (["cot-00000-of-00000.parquet"], True, "the last of 0 shards"),
        ([*THREE, f"copy/{THREE[0]}"], False, f"{THREE[0]}: is there twice"),
    ],
)  # fmt: skip
def test_names(tmp_path, names, partial, said):
    for name in names:
        shard(tmp_path / name)
    if said is None:
        found = corpus.shards(tmp_path, ("cot",), partial)
        assert {s.name for s in found} == {
            n for n in names if n.startswith("cot-") and n.endswith(".parquet")
        }
    else:
        assert said.format(tmp_path) in refusal(corpus.shards, tmp_path, ("cot",), partial)


@pytest.mark.parametrize("what", ["folder", "link", "pipe"])
def test_what_is_no_file(tmp_path, what):
    path = tmp_path / THREE[0]
    {"folder": path.mkdir, "link": lambda: path.symlink_to("gone"), "pipe": lambda: os.mkfifo(path)}[what]()
    assert f"{path}: is a folder, or a link to nothing" in refusal(corpus.shards, tmp_path, ("cot",))


def test_one_content_under_two_names(tmp_path):
    plain = {"compression": "none", "use_dictionary": False}
    first, second = shard(tmp_path / "cot-a.parquet", 99, **plain), tmp_path / "cot-b.parquet"
    shutil.copy(first, second)
    found = corpus.shards(tmp_path, ("cot",))
    assert f"{second}: has the very content of {first}; keep the right one" in refusal(
        corpus.planned, found, COLUMNS, None
    )
    # The same size, and one byte of the text differs.
    data = bytearray(second.read_bytes())
    data[data.index(b"Find the sum")] ^= 1
    second.write_bytes(data)
    assert len(corpus.planned(corpus.shards(tmp_path, ("cot",)), COLUMNS, None)) == 2
    # Two shards without a row are alike, and double nothing.
    for path in (first, second):
        shard(path, count=0)
    assert [s.rows for s in corpus.planned(corpus.shards(tmp_path, ("cot",)), COLUMNS, None)] == [0, 0]


# Footers -----------------------------------------------------------------------------------------------


class Keys(pe.KmsClient):
    """Keys that anyone may have."""

    def __init__(self, _):
        super().__init__()

    def wrap_key(self, key, _):
        return base64.b64encode(key).decode()

    def unwrap_key(self, key, _):
        return base64.b64decode(key)


def encrypted(path, plaintext_footer):
    how = pe.EncryptionConfiguration(
        footer_key="a", column_keys={"b": ["problem"]}, plaintext_footer=plaintext_footer
    )
    factory = pe.CryptoFactory(Keys)
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), how)
    with pq.ParquetWriter(path, SCHEMA, encryption_properties=properties) as writer:
        writer.write_table(table())


def with_column(name, column):
    at = SCHEMA.get_field_index(name)
    return lambda path: pq.write_table(table().set_column(at, name, column), path)


TWICE = pa.Table.from_arrays([*table().columns, table()["problem"]], names=[*SCHEMA.names, "problem"])
WRONG = {
    "cut": (lambda p: p.write_bytes(shard(p).read_bytes()[:-10]), "cannot be read as parquet (Parquet magic"),
    "empty": (lambda p: p.write_bytes(b""), "cannot be read as parquet (Parquet file size is 0 bytes)"),
    "text": (lambda p: p.write_text("<html>403</html>"), "cannot be read as parquet ("),
    "pointer": (lambda p: p.write_text(POINTER), "is a git-lfs pointer, not the file itself; put the"),
    "encrypted": (lambda p: encrypted(p, False), "is encrypted"),
    "no columns": (lambda p: pq.write_table(pa.table({}), p), "has no columns"),
    "an index alone": (lambda p: pq.write_table(pa.table({"__index_level_0__": [1]}), p), "has no columns"),
    "twice": (lambda p: pq.write_table(TWICE, p), "column problem is there 2 times"),
    "decimal": (with_column("problem", pa.array([1] * 5, pa.decimal128(5, 2))), "column problem is decimal"),
    "struct": (with_column("problem", pa.array([{"a\nb": 1}] * 5)), "column problem is struct<a?b: int64>, "),
    "list": (with_column("expected_answer", pa.array([["1"]] * 5)), "column expected_answer is list<element"),
    "bytes": (with_column("problem", pa.array([b"1"] * 5)), "column problem is binary, not text"),
    "null": (with_column("generated_solution", pa.nulls(5)), "column generated_solution is null in every"),
    "a name": (lambda p: pq.write_table(table().append_column("a\nb" * 99, table()[0]), p), "column a?ba?b"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_file_of_no_use_is_one_line(tmp_path, name):
    path = tmp_path / THREE[0]
    write, said = WRONG[name]
    write(path)
    line = refusal(corpus.planned, corpus.shards(tmp_path, ("cot",), partial=True), COLUMNS, None)
    assert line.startswith(f"{path}: {said}") and line.endswith("or unset RAW: make data brings its own")
    assert "BAD_ROWS" not in line and len(line) < 400 + len(str(path))


def test_a_pointer_in_a_clone_names_the_command(tmp_path):
    (tmp_path / "a clone/.git").mkdir(parents=True)
    path = tmp_path / "a clone/data" / THREE[0]
    path.parent.mkdir()
    path.write_text(POINTER)
    assert (
        f"is a git-lfs pointer, not the file itself (git -C '{path.parent}' lfs pull brings it);"
        in refusal(corpus.planned, corpus.shards(tmp_path, ("cot",), partial=True), COLUMNS, None)
    )


def test_an_error_of_the_disk_is_none_of_the_file(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(5, "Input/output error")

    path = shard(tmp_path / "cot-a.parquet")
    monkeypatch.setattr(pq, "read_metadata", fail)
    said = refusal(corpus.planned, corpus.shards(tmp_path, ("cot",)), COLUMNS, None, True)
    assert said == f"{path}: Input/output error; make it readable, then run again"


TEXT = (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()), pa.null())
KINDS = st.sampled_from(
    (
        *(*TEXT, pa.bool_(), pa.int8(), pa.float64(), pa.binary(), pa.binary_view(), pa.binary(3)),
        *(pa.date32(), pa.decimal128(9, 2), pa.timestamp("us", "UTC"), pa.list_(pa.string()), pa.json_()),
        *(
            pa.struct([("a", pa.string())]),
            pa.map_(pa.string(), pa.int8()),
            pa.dictionary(pa.int8(), pa.int64()),
        ),
    )
)
NAMES = st.one_of(
    st.sampled_from([*COLUMNS.names, "__index_level_0__", "__index_level_12__", "index", "problem.a", ""]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
)


@pytest.mark.slow
@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(
    st.dictionaries(st.sampled_from(COLUMNS.names), KINDS, max_size=3),
    st.sets(st.sampled_from(COLUMNS.names), max_size=1),
    st.lists(st.tuples(NAMES, KINDS), max_size=2),
    st.randoms(use_true_random=False),
)
def test_any_schema_is_read_or_one_line(tmp_path_factory, other, missing, more, dice):
    """Columns of any type, missing, doubled, surplus, in any order."""
    columns = [
        (name, other.get(name, SCHEMA.field(name).type)) for name in COLUMNS.names if name not in missing
    ]
    columns += more
    dice.shuffle(columns)
    path = tmp_path_factory.mktemp("schema") / "cot-a.parquet"
    arrays = [pa.nulls(2, kind) for _, kind in columns]
    pq.write_table(pa.Table.from_arrays(arrays, names=[name for name, _ in columns]), path)
    names, given_kinds = [name for name, _ in columns], dict(columns)
    index = [name for name in names if rows.INDEX.fullmatch(name)]
    good = sorted(set(names) - set(index)) == sorted(COLUMNS.names) and len(names) - len(index) == 9
    text = (*TEXT, pa.json_())
    good = good and all(given_kinds[name] in text for name in COLUMNS.texts)
    good = good and given_kinds["used_in_kaggle"] in (pa.bool_(), pa.null())
    good = good and pa.null() not in (given_kinds["problem"], given_kinds["generated_solution"])
    foot = corpus.footer(path, COLUMNS)
    assert bool(foot.fault) != good, foot
    assert foot.fault.isprintable() and len(foot.fault) < 150
    if good:
        assert (foot.rows, sorted(foot.left_out)) == (2, sorted(index))
        batch = rows.plain(pq.read_table(path, columns=list(COLUMNS.names)).to_batches()[0], COLUMNS)
        assert {str(kind) for kind in batch.schema.types} == {"string", "bool"}


# Counts ------------------------------------------------------------------------------------------------


def plan_of(folder, counts, published=None, limit=None):
    """[(rows, take, whether it has a fault)] of shards of so many rows; None cannot be read."""
    for number, count in enumerate(counts):
        path = folder / f"cot-{number:05}-of-{len(counts):05}.parquet"
        path.write_text(POINTER) if count is None else shard(path, count, seed=number)
    found = corpus.shards(folder, ("cot",))
    wanted = {"cot": published} if published else None
    return [(s.rows, s.take, bool(s.fault)) for s in corpus.planned(found, COLUMNS, limit, True, wanted)]


@pytest.mark.parametrize(
    "counts, more, planned",
    [
        ((5, 6), {}, [(5, 5, False), (6, 6, False)]),
        ((5, 6), {"limit": 5}, [(5, 5, False)]),
        ((5, None), {"published": 12}, [(5, 5, False), (7, 7, True)]),
        ((None, 5, None), {"published": 12}, [(4, 4, True), (5, 5, False), (3, 3, True)]),
        ((None, None), {"published": 5}, [(3, 3, True), (2, 2, True)]),
        ((5, None, 6), {}, [(5, 5, False), (6, 6, True), (6, 6, False)]),
        # More than the published rows are there: the file that cannot be read counts none the less.
        ((5, None, 7), {"published": 12}, [(5, 5, False), (7, 7, True), (7, 7, False)]),
        ((None, 6), {"limit": 4}, [(6, 4, True)]),
        ((6, None), {"limit": 8}, [(6, 6, False), (6, 2, True)]),
    ],
)
def test_what_cannot_be_read_counts_with_the_rows_that_it_should_have(tmp_path, counts, more, planned):
    assert plan_of(tmp_path, counts, **more) == planned


def test_a_loss_of_unknown_size_is_refused(tmp_path):
    said = refusal(plan_of, tmp_path, (None,))
    assert (
        "is a git-lfs pointer" in said
        and "how many rows are lost is not known, so BAD_ROWS=skip cannot" in said
    )


def test_the_published_counts_are_the_recipes(tmp_path):
    tiny.write_corpus(tmp_path)
    found = corpus.shards(tmp_path, recipe.SPLITS)
    counts = dict.fromkeys(recipe.SPLITS, 0)
    for planned in corpus.planned(found, COLUMNS, None):
        counts[planned.split] += planned.rows
    assert counts == recipe.CORPORA["tiny"].rows


# From outside ------------------------------------------------------------------------------------------


@pytest.fixture
def whole(tmp_path):
    """The tiny corpus, as RAW= names it."""
    tiny.write_corpus(tmp_path / "raw")
    return tmp_path / "raw"


def run(folder, *words, raw="raw", check=False):
    """`make data DATASET=tiny` on folder/raw, in folder/w."""
    raw = ("--raw", folder / raw) if raw else ()
    return make(folder / "w", "--dataset", "tiny", *raw, *words, check=check)


def one_line(said, code, *words):
    assert said.returncode == code and said.stderr.startswith("error: "), said.stderr
    assert said.stderr.count("\n") == 1 and "Traceback" not in said.stderr
    for word in words:
        assert word in said.stderr, said.stderr


def manifest(folder, name="tiny-round1"):
    return json.loads((folder / f"w/data/{name}.manifest.json").read_text())


@pytest.mark.slow
def test_other_counts_of_rows_are_refused_before_a_row_is_formatted(whole, tmp_path):
    """Shards that are empty, or cut short."""
    path = whole / "data" / THREE[1]
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    counts = f"{whole}: cot has 4,000 rows, not the published 6,000; "
    one_line(run(tmp_path), 2, counts, "unset RAW", "ALLOW=rows takes these")
    assert not [*(tmp_path / "w/data").glob(".*.work/*.json")]
    tir = whole / "data/tir-00000-of-00002.parquet"
    pq.write_table(pq.read_table(tir).slice(0, 1400), tir)
    for words in ((), ("--bad_rows", "skip")):
        one_line(run(tmp_path, *words), 2, "published 6,000 and tir has 2,900 rows, not the published 3,000;")
    # Only the splits that are used are counted, and a LIMIT asks for less.
    run(tmp_path, "--modes", "genselect", check=True)
    run(tmp_path, "--limit", "50", "--name", "few", check=True)
    assert manifest(tmp_path, "tiny-round1-few")["unlike_published"] == {}
    # Who means it says so, and so does the manifest.
    said = run(tmp_path, "--allow", "rows", check=True)
    assert "cot 4,000 of 4,000, tir 2,900 of 2,900" in said.stdout
    assert "published cot 6,000, published tir 3,000" in said.stdout
    assert manifest(tmp_path)["unlike_published"] == {
        "cot": {"rows": 4000, "published": 6000},
        "tir": {"rows": 2900, "published": 3000},
    }
    assert "published cot 6,000" in run(tmp_path, "--allow", "rows", check=True).stdout
    one_line(run(tmp_path), 2, "cot has 4,000 rows, not the published 6,000")
    one_line(run(tmp_path, "--allow", "all"), 2, "ALLOW=all is unknown; choose rows")


@pytest.mark.slow
def test_a_plan_that_was_allowed_is_refused_to_others(whole, tmp_path):
    """Also where a run with ALLOW=rows was killed after it had planned."""
    path = whole / "data" / THREE[1]
    pq.write_table(pq.read_table(path).slice(0, 1999), path)
    run(tmp_path, "--allow", "rows", "--part", "plan", check=True)
    one_line(run(tmp_path), 2, "cot has 5,999 rows, not the published 6,000")


@pytest.mark.slow
@pytest.mark.parametrize("raw", ["raw", None])
def test_a_lost_shard_is_no_accident(whole, tmp_path, raw):
    """A pointer in place of a shard: 2,000 of 10,000 rows, whatever BAD_ROWS says."""
    if raw is None:
        shutil.copytree(whole, tmp_path / "w/raw/tiny")
    path = (whole if raw else tmp_path / "w/raw/tiny") / "data" / THREE[1]
    path.write_text(POINTER)
    remedy = "unset RAW: make data brings its own" if raw else "FORCE=1 writes the corpus anew"
    one_line(run(tmp_path, raw=raw), 1, f"{path}: is a git-lfs pointer", remedy)
    said = run(tmp_path, "--bad_rows", "skip", raw=raw)
    example = f"2,000 of 10,000 rows are malformed so far ({path.name}: is a git-lfs pointer"
    one_line(said, 1, example, "BAD_ROWS=skip leaves out 1% at most", remedy)
    assert not [*(tmp_path / "w/data").glob("*.jsonl")]
    if raw is None:
        run(tmp_path, "--force", raw=None, check=True)


def test_a_small_loss_is_counted(tmp_path):
    """Of 3,000 rows one shard has 20, and cannot be read."""
    for number, count in enumerate((1000, 1980, 20)):
        shard(tmp_path / f"raw/cot-0000{number}-of-00003.parquet", count, number)
    path = tmp_path / "raw/cot-00002-of-00003.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    words = ("--modes", "cot", "--allow", "rows", "--bad_rows", "skip")
    # No count is published for these: as many may be lost as the largest shard has.
    one_line(run(tmp_path, *words), 1, "1,980 of 4,960 rows are malformed so far")
    row = recipe.CORPORA["tiny"]
    before, row.rows["cot"] = row.rows["cot"], 3000
    try:
        said = run(tmp_path, "--modes", "cot", "--bad_rows", "skip", check=True)
    finally:
        row.rows["cot"] = before
    assert "cot 2,980 of 3,000, 20 malformed left out" in said.stdout
    (reject,) = lines(tmp_path / "w/data/tiny-round1-cot.rejected.jsonl")
    assert (reject["file"], reject["row_group"], reject["rows"]) == (path.name, None, 20)


def texts_of(kind):
    """The published schema with another type of text."""
    return pa.schema([*((name, kind) for name in COLUMNS.texts), ("used_in_kaggle", pa.bool_())])


SPELLINGS = {
    "string_view": lambda t: t.cast(texts_of(pa.string_view())),
    "large_string": lambda t: t.cast(texts_of(pa.large_string())),
    "categories": lambda t: t.cast(texts_of(pa.dictionary(pa.int16(), pa.string()))),
    "pandas' index": lambda t: t.append_column("__index_level_0__", pa.array(range(len(t)))),
    "backwards": lambda t: t.select(t.schema.names[::-1]),
    "empty row groups": lambda t: t,
}  # fmt: skip


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """The bytes of both rounds, of the corpus as it is."""
    folder = tmp_path_factory.mktemp("usual")
    tiny.write_corpus(folder / "raw", rows={"cot": 300, "tir": 200, "genselect": 60})
    return {
        number: (run(folder, "--allow", "rows", "--round", number, check=True), folder)[1]
        for number in (1, 2)
    }


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.slow
def test_the_same_rows_however_they_are_stored(usual, tmp_path, name):
    shutil.copytree(usual[1] / "raw", tmp_path / "raw")
    for path in (tmp_path / "raw").rglob("*.parquet"):
        stored = SPELLINGS[name](pq.read_table(path))
        with pq.ParquetWriter(path, stored.schema) as writer:
            for first in range(0, len(stored), 70):
                writer.write_table(stored.slice(first, 70))
                if name == "empty row groups":
                    writer.write_table(stored.slice(0, 0))
    for number in (1, 2):
        said = run(tmp_path, "--allow", "rows", "--round", number, check=True)
        made, first = (
            files.sha256(f / f"w/data/tiny-round{number}.jsonl") for f in (tmp_path, usual[number])
        )
        assert made == first
        assert said.stdout.count("column __index_level_0__ left out") == (name == "pandas' index")
    left_out = manifest(tmp_path)["columns_left_out"]
    assert list(left_out) == (["__index_level_0__"] if name == "pandas' index" else [])
    assert sum(map(len, left_out.values())) == (6 if left_out else 0)


@pytest.mark.slow
def test_a_column_of_nulls(tmp_path):
    """Of type null, as pandas writes what has no value: nulls, like those of a text column."""
    nulls = ("expected_answer", "problem_type", "used_in_kaggle")
    for folder, kind in (("typed", pa.string()), ("raw", pa.null())):
        made = table(count=40)
        for name in nulls:
            column = pa.nulls(40, pa.bool_() if name == "used_in_kaggle" and folder == "typed" else kind)
            made = made.set_column(made.schema.get_field_index(name), name, column)
        (tmp_path / folder).mkdir()
        pq.write_table(made, tmp_path / folder / "cot-a.parquet")
    words = ("--modes", "cot", "--allow", "rows")
    run(tmp_path, *words, raw="typed", check=True)
    typed = (tmp_path / "w/data/tiny-round1-cot.jsonl").read_bytes()
    run(tmp_path, *words, "--force", check=True)
    assert (tmp_path / "w/data/tiny-round1-cot.jsonl").read_bytes() == typed
    assert json.loads(typed.splitlines()[0])["expected_answer"] is None
    # Round 2 reads pass rates: where all are null, each row is malformed.
    made = table(count=400).set_column(4, "pass_rate_72b_tir", pa.nulls(400))
    pq.write_table(made, tmp_path / "raw/cot-a.parquet")
    one_line(run(tmp_path, *words, "--round", 2), 1, "row 0: pass rate is null, no number")
    one_line(run(tmp_path, *words, "--round", 2, "--bad_rows", "skip"), 1, "pass rate is null", "1% at most")


def test_columns_that_are_encrypted(tmp_path):
    """Their footer is plain, so only reading them tells."""
    (tmp_path / "raw").mkdir()
    encrypted(tmp_path / "raw/cot-a.parquet", plaintext_footer=True)
    said = run(tmp_path, "--modes", "cot", "--allow", "rows")
    one_line(said, 1, "cot-a.parquet: row group 0, row 0: cannot be read (Cannot decrypt ColumnMetadata")


@pytest.mark.slow
def test_shards_that_went_to_save_space(tmp_path):
    """Of our own copy: those that are there are compared, and the file is finished already."""
    run(tmp_path, raw=None, check=True)
    folder = tmp_path / "w/raw/tiny/data"
    (folder / THREE[1]).unlink()
    assert "(finished already)" in run(tmp_path, raw=None, check=True).stdout
    one_line(
        run(tmp_path, "--round", 2, raw=None), 2, "cot shards 00001 are missing; FORCE=1 writes the corpus"
    )
    path = folder / THREE[0]
    pq.write_table(pq.read_table(path).slice(1), path)
    one_line(run(tmp_path, raw=None), 2, "raw was ")
    run(tmp_path, "--round", 2, "--force", raw=None, check=True)


def test_no_row_is_left(tmp_path):
    shard(tmp_path / "raw/cot-a.parquet", 3)
    words = ("--modes", "cot", "--round", 2, "--limit", 3, "--name", "few")
    one_line(run(tmp_path, *words), 1, "no row is left for tiny-round2-cot-few.jsonl; give a larger LIMIT")
