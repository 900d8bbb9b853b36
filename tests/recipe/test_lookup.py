"""The published numbers, against the seed's own table and text."""

import pytest

from omr import recipe
from omr.errors import RequestError

# The seed's table: model -> lr, min_lr, TP, CP; and what NeMo-Skills derives: the sequence divisor.
TABLE = {
    "1.5b": (3e-4, 3e-7, 1, 2, 4),
    "7b": (2e-4, 2e-7, 4, 2, 4),
    "14b": (1e-4, 1e-7, 8, 2, 8),
    "32b": (1e-4, 1e-7, 8, 4, 8),
}


@pytest.mark.parametrize("name", TABLE)
def test_table(name):
    run = recipe.run(name)
    row = run.model
    found = (row.lr, row.min_lr, row.tensor_parallel, row.context_parallel, run.sequence_divisor)
    assert found == TABLE[name]
    assert (row.nodes, row.gpus, row.batch, row.sequence_length) == (64, 8, 1024, 32_768)
    assert row.sequence_length % run.sequence_divisor == 0
    assert row.patched == ("Math" in row.base.repo)


@pytest.mark.parametrize(
    "number, variant, steps, warmup, averaged",
    [
        (1, None, 30_000, 3_000, (7_500, 15_000, 22_500, 30_000)),
        (2, None, 3_000, 300, (750, 1_500, 2_250, 3_000)),
        (2, "recommended", 3_000, 300, (750, 1_500, 2_250, 3_000)),
        (2, "paper", 10_000, 1_000, (2_500, 5_000, 7_500, 10_000)),
    ],
)
def test_rounds(number, variant, steps, warmup, averaged):
    plan = recipe.run("7b", number, variant).schedule
    assert (plan.steps, plan.warmup, plan.averaged) == (steps, warmup, averaged)


RUNS = [
    recipe.run(model.name, row.number, row.variant)
    for model in recipe.MODELS.values()
    for row in recipe.ROUNDS.values()
    if row.number in model.rounds
]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.title)
def test_every_averaged_step_is_saved(run):
    plan = run.schedule
    assert len(plan.averaged) == 4 == len(set(plan.averaged))
    assert all(step % plan.save_period == 0 or step == plan.steps for step in plan.averaged)
    assert plan.averaged[-1] == plan.steps


@pytest.mark.parametrize("steps", [4, 5, 20, 22, 1001])
def test_a_derived_schedule_saves_what_it_averages(steps):
    plan = recipe.derive(steps)
    assert len(set(plan.averaged)) == 4
    assert all(step % plan.save_period == 0 or step == steps for step in plan.averaged)


@pytest.mark.parametrize(
    "words, said",
    [
        ((None,), "MODEL is not set; choose MODEL=tiny, 1.5b, 7b, 14b or 32b"),
        (("9b",), "MODEL=9b is unknown; choose tiny, 1.5b, 7b, 14b or 32b"),
        (("32b", 2), "32b trains in round 1 only"),
        (("7b", 3), "ROUND=3 is unknown; choose 1 or 2"),
        (("7b", 2, "foo"), "VARIANT=foo is unknown; choose recommended or paper"),
        (("7b", 1, "paper"), "VARIANT=paper filters round 2 only"),
        (("7b", 1, None, 3), "STEPS=3 is too short"),
    ],
)
def test_refusals(words, said):
    with pytest.raises(RequestError) as refused:
        recipe.run(*words)
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text, splits",
    [
        (None, ("cot", "tir", "genselect")),
        ("tir,cot", ("cot", "tir")),
        (" genselect ", ("genselect",)),
    ],
)
def test_modes(text, splits):
    assert recipe.modes(text) == splits


@pytest.mark.parametrize("text", ["cot,foo", "cot,", "additional_problems"])
def test_modes_refused(text):
    with pytest.raises(RequestError, match="MODES="):
        recipe.modes(text)
