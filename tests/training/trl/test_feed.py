"""The batches of a training: which tokens of which rows, for which process."""

from functools import partial

import pytest

from omr.errors import OmrError
from omr.tiny.tokenizer import tiny_tokenizer
from omr.training.trl.batches import EpochOrder, padded_groups
from omr.training.trl.feed import BatchFeed
from omr.training.trl.process_group import ProcessGroup
from omr.training.trl.sft_file import SftFile
from tests.training.trl.test_sft_file import write_rows


@pytest.fixture
def feed(tmp_path):
    rows = [("1+1?", "2<|im_end|>\n"), ("What is 3+4?", "7"), ("x" * 50, "y"), ("2+2?", "4")]
    found = SftFile(write_rows(tmp_path / "data.jsonl", rows), tmp_path / "index.npy")

    def make(rank=0, processes=1, steps=range(3), longest=30, batch=4):
        order, tokenizer = EpochOrder(4, batch), tiny_tokenizer()
        group_rows = partial(padded_groups, tokens=64)
        group = ProcessGroup(rank, processes)
        return BatchFeed(found, order, tokenizer, longest, group_rows, steps, group)

    return make


def test_a_row_is_its_two_texts_as_they_are_and_only_the_output_counts(feed):
    tokenizer = tiny_tokenizer()
    (row,) = feed().encode([0])
    given, wanted = tokenizer.encode("1+1?"), tokenizer.encode("2<|im_end|>\n")
    assert row == {"input_ids": given + wanted, "labels": [-100] * len(given) + wanted}
    assert tokenizer.decode(row["input_ids"]) == "1+1?2<|im_end|>\n"


def test_a_long_row_counts_and_is_not_trained(feed):
    batch = feed().batch(0)
    assert batch.rows_over_length == 1
    assert feed().count_over_length(1000) == (4, 1)
    assert feed().count_over_length(2) == (2, 0)
    assert sum(len(group) for group in batch.micro_batches) == 3
    assert batch.trained_tokens == sum(
        label != -100 for group in batch.micro_batches for row in group for label in row["labels"]
    )


def test_processes_share_a_batch(feed):
    whole = [row["input_ids"] for group in feed().batch(1).micro_batches for row in group]
    parts = [
        row["input_ids"] for rank in (0, 1) for group in feed(rank, 2).batch(1).micro_batches for row in group
    ]
    assert sorted(parts) == sorted(whole)
    # One of more processes than rows has nothing to do, and says so.
    assert feed(4, 5).batch(0).micro_batches == []


def test_the_feed_goes_through_its_steps_in_order_and_passes_errors_on(feed):
    batches = list(feed(steps=range(2, 5)))
    assert [batch.step for batch in batches] == [2, 3, 4]
    assert batches[0] == feed().batch(2)
    broken = feed()
    lines = broken.file.path.read_text().splitlines()
    broken.file.path.write_text("".join("x" * len(line.encode()) + "\n" for line in lines))
    with pytest.raises(OmrError, match="has no text for input and output"):
        list(broken)
