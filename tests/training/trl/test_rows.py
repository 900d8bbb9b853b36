"""Rows, their order and their micro-batches: values in, values out."""

import json
from collections import Counter

import pytest

from omr.errors import OmrError
from omr.tiny import corpus
from omr.training.trl.rows import Feed, Order, Rows, packed, padded


def write(path, rows, end="\n"):
    text = "\n".join(json.dumps({"input": a, "output": b}, ensure_ascii=False) for a, b in rows) + end
    path.write_text(text, encoding="utf-8")
    return path


PAIRS = [("ä\u2028b", "1"), ("x" * 100, "2"), ("", "3"), ("line\nbreak", "4")]


@pytest.mark.parametrize("end", ["\n", ""])
def test_rows_are_read_by_number(tmp_path, end):
    rows = Rows(write(tmp_path / "data.jsonl", PAIRS, end), tmp_path / "index.npy")
    assert [rows[n] for n in range(len(rows))] == PAIRS
    assert rows[2] == PAIRS[2]


def test_the_index_is_made_once_and_blocks_do_not_matter(tmp_path, monkeypatch):
    path = write(tmp_path / "data.jsonl", PAIRS * 10)
    rows = Rows(path, tmp_path / "index.npy")
    made = (tmp_path / "index.npy").stat().st_mtime_ns
    monkeypatch.setattr("omr.training.trl.rows.BLOCK", 7)
    again = Rows(path, tmp_path / "index.npy")
    assert (tmp_path / "index.npy").stat().st_mtime_ns == made
    small = Rows(path, tmp_path / "small.npy")
    assert [rows[n] for n in range(40)] == [again[n] for n in range(40)] == [small[n] for n in range(40)]


def test_a_limit_is_the_first_rows(tmp_path):
    rows = Rows(write(tmp_path / "data.jsonl", PAIRS), tmp_path / "index.npy", 3)
    assert len(rows) == 3
    assert rows.found == 4
    assert len(Rows(tmp_path / "data.jsonl", tmp_path / "index.npy", 30)) == 4


def test_an_index_of_another_file_is_refused(tmp_path):
    path = write(tmp_path / "data.jsonl", PAIRS)
    Rows(path, tmp_path / "index.npy")
    write(path, PAIRS[:2])
    with pytest.raises(OmrError, match="no longer the file"):
        Rows(path, tmp_path / "index.npy")


def test_every_epoch_has_every_row_once_in_an_order_of_its_own():
    order = Order(10, 4)
    seen = [n for step in range(5) for n in order.rows_of(step)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:] != list(range(10))
    again = Order(10, 4)
    assert [again.rows_of(step) for step in (3, 1, 4)] == [seen[12:16], seen[4:8], seen[16:20]]
    assert Order(10, 4, seed=1).rows_of(0) != seen[:4]


def test_the_order_is_the_same_in_every_version():
    assert Order(10, 10).rows_of(0) == [4, 8, 1, 9, 3, 6, 0, 7, 2, 5]


def test_a_batch_may_be_larger_than_the_data():
    assert sorted(Counter(Order(3, 7).rows_of(0)).values()) == [2, 2, 3]


LENGTHS = [
    [],
    [5],
    [10] * 20,
    [3, 100, 4, 90, 5, 80],
    [100, 99, 1],
]


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("plan", [padded(200), packed(120)])
def test_micro_batches_have_every_row_once(lengths, plan):
    groups = plan(lengths)
    assert sorted(n for group in groups for n in group) == list(range(len(lengths)))


@pytest.mark.parametrize("lengths", LENGTHS)
def test_micro_batches_keep_their_limits(lengths):
    for group in padded(200)(lengths):
        sizes = [lengths[n] for n in group]
        assert len(group) == 1 or (len(group) * max(sizes) <= 200 and max(sizes) <= 1.3 * min(sizes))
    assert all(sum(lengths[n] for n in group) <= 120 for group in packed(120)(lengths))


def test_packing_fills_gaps():
    assert len(packed(100)([60, 40, 50, 30, 20])) == 2


@pytest.fixture
def feed(tmp_path):
    rows = [("1+1?", "2<|im_end|>\n"), ("What is 3+4?", "7"), ("x" * 50, "y"), ("2+2?", "4")]
    found = Rows(write(tmp_path / "data.jsonl", rows), tmp_path / "index.npy")

    def make(rank=0, processes=1, steps=range(3), sequence_length=30, batch=4):
        order, tokenizer = Order(4, batch), corpus.tokenizer()
        return Feed(found, order, tokenizer, sequence_length, padded(64), steps, rank, processes)

    return make


def test_a_row_is_its_two_texts_as_they_are_and_only_the_output_counts(feed):
    tokenizer = corpus.tokenizer()
    (row,) = feed().encode([0])
    given, wanted = tokenizer.encode("1+1?"), tokenizer.encode("2<|im_end|>\n")
    assert row == {"input_ids": given + wanted, "labels": [-100] * len(given) + wanted}
    assert tokenizer.decode(row["input_ids"]) == "1+1?2<|im_end|>\n"


def test_a_long_row_counts_and_is_not_trained(feed):
    share = feed().share(0)
    assert share.over_length == 1
    assert feed().over_length(1000) == (4, 1)
    assert feed().over_length(2) == (2, 0)
    assert sum(len(group) for group in share.micro) == 3
    assert share.trained == sum(
        label != -100 for group in share.micro for row in group for label in row["labels"]
    )


def test_processes_share_a_batch(feed):
    whole = [row["input_ids"] for group in feed().share(1).micro for row in group]
    parts = [row["input_ids"] for rank in (0, 1) for group in feed(rank, 2).share(1).micro for row in group]
    assert sorted(parts) == sorted(whole)
    # One of more processes than rows has nothing to do, and says so.
    assert feed(4, 5).share(0).micro == []


def test_the_feed_goes_through_its_steps_in_order_and_passes_errors_on(feed):
    shares = list(feed(steps=range(2, 5)))
    assert [share.step for share in shares] == [2, 3, 4]
    assert shares[0] == feed().share(2)
    broken = feed()
    broken.rows.path.write_text("x" * broken.rows.path.stat().st_size)
    with pytest.raises(OmrError, match="has no text for input and output"):
        list(broken)
