"""One shard to lines: whatever a file's fault, a row is kept, dropped or rejected, or one line refuses it."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omr import recipe
from omr.data import corpus, formatting, scratch
from omr.errors import OmrError
from tests.data.kit import COLUMNS
from tests.data.test_corpus import shard
from tests.data.test_mixing import COMPILED, a_job

ROWS = 400


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A shard of four row groups, as bytes: in plain pages, and in compressed ones with dictionaries."""
    folder = tmp_path_factory.mktemp("whole")
    how = ({"compression": "none", "use_dictionary": False}, {"write_page_checksum": True})
    paths = [
        shard(folder / f"cot-{n}.parquet", ROWS, row_group_size=100, **more) for n, more in enumerate(how)
    ]
    return [path.read_bytes() for path in paths]


def outcome(folder, skip, round_key):
    """The result of the folder's one shard, and its lines; None where one line refuses it."""
    round_ = recipe.ROUNDS[round_key]
    job = a_job(folder / "work", corpus=recipe.CORPORA["tiny"], round=round_, skip=skip, compiled=COMPILED)
    try:
        (planned,) = corpus.planned(
            corpus.shards(folder, ("genselect",)), COLUMNS, None, skip, {"genselect": ROWS}
        )
        result = formatting.run(job, planned, planned.take)
    except OmrError as error:
        line = str(error)
        assert line.isprintable() and line.startswith(str(folder)) and len(line) < 400 + 2 * len(str(folder))
        assert skip <= ("unset RAW" in line)
        return None, []
    reader = scratch.Reader(job.work, [planned.name])
    text = b"".join(segment.text for bucket in range(job.buckets) for segment in reader.segments(bucket))
    return result, text.splitlines(keepends=True)


def whole_lines(found):
    """That each line is a row's."""
    keys = {*COLUMNS.names, "input", "output"} - {"problem", "generated_solution"}
    assert all(set(json.loads(line)) == keys and line.endswith(b"\n") for line in found)


DAMAGE = st.lists(
    st.tuples(
        st.sampled_from(["flip", "zeros", "noise", "cut", "insert"]),
        st.one_of(st.integers(0, 999_999), st.integers(950_000, 999_999)),  # where: in pages, or the footer
        st.integers(1, 255),
    ),
    min_size=1,
    max_size=3,
)


def damaged(data, damage):
    """The bytes with some of them gone or changed."""
    data = bytearray(data)
    for kind, where, much in damage:
        at = where * len(data) // 1_000_000
        if kind == "flip":
            data[at] ^= much
        elif kind in ("zeros", "noise"):
            size = min(much, len(data) - at)
            data[at : at + size] = bytes(size) if kind == "zeros" else np.random.default_rng(much).bytes(size)
        elif kind == "cut":
            del data[at : at + much]
        else:
            data[at:at] = bytes([much]) * (much % 9 + 1)
    return bytes(data)


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(DAMAGE, st.booleans(), st.sampled_from(["round1", "round2"]), st.integers(0, 1))
def test_any_damage_is_counted_or_one_line(tmp_path_factory, whole, damage, skip, round_key, kind):
    folder = tmp_path_factory.mktemp("damage")
    (folder / "genselect-a.parquet").write_bytes(damaged(whole[kind], damage))
    result, found = outcome(folder, skip, round_key)
    if result:
        rejected = sum(reject.rows for reject in result.rejected)
        assert result.read == result.kept + sum(result.dropped.values()) + rejected
        assert (result.read, len(found)) == (ROWS, result.kept) and result.lost >= rejected
        whole_lines(found)


def test_a_pass_rate_that_is_no_text(tmp_path, whole):
    """Met by the test above: a flipped byte, where round 2 reads it."""
    first, _, rest = whole[0].partition(b"0.1875")
    (tmp_path / "genselect-a.parquet").write_bytes(first + b"0.18\xff5" + rest)
    assert outcome(tmp_path, False, "round2") == (None, [])
    result, found = outcome(tmp_path, True, "round2")
    assert [reject.reason for reject in result.rejected] == ["pass rate is not UTF-8"]
    assert len(found) == result.kept > 0


def test_what_cannot_be_read_counts_whole_where_the_filter_would_keep_little(tmp_path, whole):
    """Round 2 keeps some of the rows: those are rejected, and all hundred count against BAD_ROWS' limit."""
    path = tmp_path / "genselect-a.parquet"
    path.write_bytes(whole[0])
    at = pq.read_metadata(path).row_group(2).column(COLUMNS.names.index("problem")).data_page_offset
    path.write_bytes(whole[0][:at] + bytes(40) + whole[0][at + 40 :])
    result, _ = outcome(tmp_path, True, "round2")
    (reject,) = result.rejected
    assert (reject.row_group, reject.row, result.lost) == (2, 200, 100)
    assert 0 < reject.rows < 100 and reject.reason.startswith("cannot be read (")


def test_fewer_rows_than_the_footer_says(tmp_path):
    path, found = shard(tmp_path / "cot-a.parquet", 30, row_group_size=10), []
    with pq.ParquetFile(path) as file, pytest.raises(formatting.Damaged, match="fewer rows") as error:
        found += formatting.read(file, COLUMNS, 1, 10, np.ones(15, bool))
    assert error.value.row == 10


@pytest.mark.parametrize("lost, helps", [(1, True), (4, True), (5, False)])
def test_skipping_is_advised_where_it_helps(tmp_path, lost, helps):
    job = a_job(tmp_path / "work", bearable=4, remedy="bring it")
    path = shard(tmp_path / "cot-a.parquet")
    (found,) = corpus.shards(tmp_path, ("cot",))
    with pytest.raises(OmrError) as error:
        formatting.Formatter(job, found).reject(0, 7, lost, "torn")
    skip = ", or BAD_ROWS=skip leaves it out" if helps else ""
    assert str(error.value) == f"{path}: row group 0, row 7: torn; bring it{skip}"
