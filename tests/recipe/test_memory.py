"""The estimate of a GPU's memory, and the count of parameters that it begins with."""

from dataclasses import replace

import pytest

from omr import recipe
from omr.recipe import memory

FOUND = recipe.shipped("openmathreasoning")


@pytest.mark.parametrize(
    "name, count",
    # Of the published models: their safetensors, as the hub counts them.
    [("1.5b", 1_543_714_304), ("7b", 7_615_616_512), ("14b", 14_770_033_664), ("32b", 32_763_876_352)],
)
def test_parameters_are_those_of_the_published_models(name, count):
    assert memory.parameters(FOUND.architectures[name]) == count
    assert abs(count / FOUND.models[name].parameters - 1) < 0.03


@pytest.mark.parametrize("name", FOUND.models)
def test_the_published_trainings_fit(name):
    assert memory.estimate(FOUND.models[name], FOUND.architectures[name]).total < memory.GPU


def test_more_of_it_on_fewer_gpus():
    row, shape = FOUND.models["7b"], FOUND.architectures["7b"]
    whole = memory.estimate(replace(row, tensor_parallel=1, context_parallel=1), shape)
    assert whole.weights == pytest.approx(4 * memory.parameters(shape)) and whole.total > memory.GPU
    one = memory.estimate(replace(row, nodes=1, gpus=4), shape)
    assert one.optimizer == pytest.approx(12 * memory.parameters(shape) / 4)
