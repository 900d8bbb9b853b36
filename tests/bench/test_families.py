"""Each family of cases measures what it says, on very little; the long ones are marked slow."""

from dataclasses import replace

import pytest

from bench import average, cluster, commands, data, engine, evaluation, gpu, tokens
from bench.measure import Place
from omr import recipe


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path, 20)


def measured(case):
    return {name: way() for name, way in case.ways.items()}


@pytest.mark.parametrize(
    ("ours", "theirs", "digits"),
    [
        ([1.0, 2.0], [1.0, 2.0], 16),
        ([1.00004, 2.0], [1.0, 2.0], 5),
        ([1.0, 2.002], [1.0, 2.0], 3),
        ([1.0], [1.0, 2.0], 0),
        ([1.0], [3.0], 0),
    ],
)
def test_losses_are_compared_where_they_agree_least(ours, theirs, digits):
    assert engine.equal_digits(ours, theirs) == digits


def test_tokens_a_second_leave_the_first_step_out():
    assert engine.speed([(1.0, 1000, 10.0), (1.0, 300, 11.0), (1.0, 500, 12.0)]) == 400


def test_operations_of_a_token_are_those_of_its_parameters_and_its_row():
    shape = recipe.ARCHITECTURES["1.5b"]
    short, long = (gpu.operations(shape, length) for length in (8_192, 32_768))
    assert 6 * 1.5e9 < short < long < 1.8 * short


@pytest.mark.slow
def test_a_gpus_step_runs_on_any_device():
    """The code of the GPU rows, on a CPU and a tiny shape."""
    shape = replace(
        recipe.ARCHITECTURES["1.5b"], hidden=32, layers=2, heads=2, kv_heads=1, inner=64, vocabulary=128
    )
    speed, memory = gpu.step(shape, 64, "cpu")
    assert speed > 0 and memory == 0


def test_without_a_gpu_its_rows_say_so(place, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [(case.ways, case.note) for case in gpu.cases(place)] == [
        ({}, "no CUDA GPU is on this machine")
    ] * 2


def test_without_nemo_skills_the_data_rows_say_so(place, monkeypatch):
    monkeypatch.setattr(data.importlib.util, "find_spec", lambda name: None)
    [case] = data.cases(place)
    assert not case.ways and "make nemo" in case.note


def test_commands_are_timed_beside_their_floor(place):
    case = next(iter(commands.cases(place)))
    assert all(took > 1 for took in measured(case).values()) and list(case.ways)[-1] == commands.FLOOR


@pytest.mark.slow
def test_token_counters_agree(place):
    for case in tokens.cases(place):
        assert case.note == "the counts are equal" and all(speed > 0 for speed in measured(case).values())


@pytest.mark.slow
def test_both_clients_get_every_answer(place):
    for case in evaluation.cases(place):
        assert all(speed > 1 for speed in measured(case).values())


@pytest.mark.slow
def test_a_graph_is_submitted_and_a_link_starts_its_engine(place):
    submission, link = cluster.cases(place)
    assert "27 jobs" in submission.what
    for case in (submission, link, link):
        ours, floor = measured(case).values()
        assert ours > floor > 0


@pytest.mark.slow
def test_both_averages_have_the_same_bytes(place):
    [case] = average.cases(place)
    assert case.note == "the same bytes"


@pytest.mark.slow
def test_the_engine_and_a_plain_script_have_the_same_losses(place, monkeypatch):
    monkeypatch.setattr(engine, "STEPS", 4)
    [case] = engine.cases(place)
    assert "equal to 4 digits" in case.note
