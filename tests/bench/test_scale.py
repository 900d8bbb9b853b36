"""The numbers of docs/scale.md follow from the recipe, and from each other."""

import math
import random

import pytest

from bench import scale
from omr import recipe
from omr.cluster import plan


def test_rows_of_round_1_have_the_published_mean():
    found = scale.lengths(recipe.run("7b"))
    assert found.mean == pytest.approx(plan.ROW_BYTES / plan.TOKEN_BYTES)
    assert found.weighted > found.mean  # attention is paid for the long rows


def test_rows_of_round_2_are_those_above_the_filter():
    """The closed form beside a drawing of rows."""
    run, mean = recipe.run("7b", 2), plan.ROW_BYTES / plan.TOKEN_BYTES
    middle, dice = math.log(mean) - scale.SPREAD**2 / 2, random.Random(0)
    drawn = [n for n in (dice.lognormvariate(middle, scale.SPREAD) for _ in range(200_000)) if n >= 5_000]
    found = scale.lengths(run)
    assert found.mean == pytest.approx(sum(drawn) / len(drawn), rel=0.01)
    assert found.weighted == pytest.approx(sum(n * n for n in drawn) / sum(drawn), rel=0.02)


@pytest.mark.parametrize(
    ("model", "nodes", "ranks", "trains"),
    [("1.5b", 64, 256, True), ("7b", 64, 64, True), ("32b", 64, 16, True), ("7b", 640, 640, False)],
)
def test_ranks_share_out_the_batch(model, nodes, ranks, trains):
    row = recipe.model(model)
    assert scale.ranks(row, nodes) == ranks and scale.trains_on(row, nodes) is trains


def test_more_nodes_make_a_step_shorter_until_there_are_no_packs():
    run = recipe.run("7b")
    assert scale.step_seconds(run, 128) < scale.step_seconds(run, 64) < scale.step_seconds(run, 32)
    assert scale.packed_share(run, 512) < 0.5 < scale.packed_share(run, 64) <= 1
    # Beyond the packs, a step is as long as its fullest pack.
    assert scale.step_seconds(run, 1024) == pytest.approx(scale.step_seconds(run, 512))


def test_a_step_takes_longer_than_plan_guesses_by_attention_and_packs():
    run = recipe.run("32b")
    guess = plan.numbers(plan.TrainRequest.of(run), scale.NOWHERE).step_seconds
    assert guess < scale.step_seconds(run) * scale.packed_share(run) < 1.3 * guess


def test_a_save_takes_longer_on_a_slower_file_system_and_for_a_larger_model():
    small, large = (scale.save_seconds(recipe.run(name)) for name in ("1.5b", "32b"))
    assert scale.SAVE_OVERHEAD < small[1] < small[0] < large[0] and large[1] < large[0]


def test_every_run_of_the_recipe_stands_in_the_table():
    text = scale.training()
    assert [run.model.name for run in scale.runs()].count("7b") == 2
    assert all(f"| {run.model.name} round {run.round.number} |" in text for run in scale.runs())


def test_what_is_beyond_its_limit_is_bold(monkeypatch):
    assert "**640 (" in scale.growth() and "| 64 (" in scale.growth()
    monkeypatch.setattr(scale, "FAILURES", 100 * scale.FAILURES)
    assert "| **1** | **1** | **0** |" in scale.growth()


@pytest.mark.parametrize("name", scale.TABLES)
def test_a_table_has_as_many_cells_in_every_line(name):
    lines = scale.TABLES[name]().splitlines()
    assert len(lines) > 4 and len({line.count("|") for line in lines}) == 1


def test_the_failure_rate_is_that_of_the_paper():
    hours = 24 / (scale.FAILURES * 16_384 / 8)
    assert hours == pytest.approx(54 * 24 / 419)  # one in three hours, as the paper says of its 16,384 GPUs
