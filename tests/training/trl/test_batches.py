"""Which rows train at which step, and how they are grouped: values in, values out."""

from collections import Counter
from functools import partial

import pytest

from omr.training.trl.batches import EpochOrder, packed_groups, padded_groups


def test_every_epoch_has_every_row_once_in_an_order_of_its_own():
    order = EpochOrder(10, 4)
    seen = [n for step in range(5) for n in order.rows_of(step)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:] != list(range(10))
    again = EpochOrder(10, 4)
    assert [again.rows_of(step) for step in (3, 1, 4)] == [seen[12:16], seen[4:8], seen[16:20]]
    assert EpochOrder(10, 4, seed=1).rows_of(0) != seen[:4]


def test_the_order_is_the_same_in_every_version():
    assert EpochOrder(10, 10).rows_of(0) == [4, 8, 1, 9, 3, 6, 0, 7, 2, 5]


def test_a_batch_may_be_larger_than_the_data():
    assert sorted(Counter(EpochOrder(3, 7).rows_of(0)).values()) == [2, 2, 3]


LENGTHS = [
    [],
    [5],
    [10] * 20,
    [3, 100, 4, 90, 5, 80],
    [100, 99, 1],
]


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize(
    "group_rows", [partial(padded_groups, tokens=200), partial(packed_groups, tokens=120)]
)
def test_micro_batches_have_every_row_once(lengths, group_rows):
    groups = group_rows(lengths)
    assert sorted(n for group in groups for n in group) == list(range(len(lengths)))


@pytest.mark.parametrize("lengths", LENGTHS)
def test_micro_batches_keep_their_limits(lengths):
    for group in padded_groups(lengths, 200):
        sizes = [lengths[n] for n in group]
        assert len(group) == 1 or (len(group) * max(sizes) <= 200 and max(sizes) <= 1.3 * min(sizes))
    assert all(sum(lengths[n] for n in group) <= 120 for group in packed_groups(lengths, 120))


def test_packing_fills_gaps():
    assert len(packed_groups([60, 40, 50, 30, 20], 100)) == 2
