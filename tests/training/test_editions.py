"""What differs between editions is found in the files that they write, and has a source."""

import pytest

from omr import recipe
from omr.recipe.editions import SOURCES
from omr.training import editions

PUBLISHED = [recipe.run(model) for model in recipe.shipped("openmathreasoning").models]


def test_every_key_that_differs_has_a_source_and_no_other_has_one():
    differing = [editions.differing(run) for run in PUBLISHED]
    assert {key for found in differing for key in found} == set(SOURCES)


@pytest.mark.parametrize("run", PUBLISHED, ids=lambda run: run.model.name)
def test_what_differs(run):
    own = {"policy.megatron_cfg.layernorm_epsilon": {"pinned": 1e-6, "published": 1e-5, "current": 1e-6}}
    clip = {"pinned": 1.0, "published": 0.0, "current": 0.0}
    assert editions.differing(run) == {
        "policy.max_grad_norm": clip,
        "policy.megatron_cfg.optimizer.clip_grad": clip,
        "policy.megatron_cfg.empty_unused_memory_level": {"pinned": 0, "published": 0, "current": 1},
        "data.max_input_seq_length": {"pinned": 32769, "published": 32769, "current": 32768},
        **(own if run.model.name in ("14b", "32b") else {}),
    }


@pytest.mark.parametrize(
    ("run", "engine", "lines"),
    [
        (
            recipe.run("7b"),
            "nemo-rl",
            [
                "pinned: the text that this toolkit implements",
                "beside published: clip_grad 1.0, not 0.0",
                "beside current: empty_unused_memory_level 0, not 1; clip_grad 1.0, not 0.0;"
                " max_input_seq_length 32769, not 32768",
            ],
        ),
        (
            recipe.run("14b", edition="published"),
            "nemo-rl",
            [
                "published: as the published models were trained, as far as that is known",
                "beside pinned: layernorm_epsilon 1e-05, not 1e-06; clip_grad 0.0, not 1.0",
                "beside current: empty_unused_memory_level 0, not 1; layernorm_epsilon 1e-05, not 1e-06;"
                " max_input_seq_length 32769, not 32768",
            ],
        ),
        (
            recipe.run("14b", edition="current", name="box"),
            "trl",
            [
                "current: the newest official page",
                "beside pinned: clip_grad 0.0, not 1.0; max_input_seq_length 32768, not 32769",
                "beside published: max_input_seq_length 32768, not 32769",
            ],
        ),
    ],
    ids=["pinned", "published", "one box"],
)
def test_the_plan_says_it_in_three_lines(run, engine, lines):
    assert editions.lines(run, engine) == lines
