"""What `make plan` says of a run before it begins: counted, measured, or estimated."""

from dataclasses import replace
from pathlib import Path

import pytest

from omr import manifest, recipe
from omr.cluster import plan
from omr.data import statistics
from omr.data.statistics import Lengths, SplitLengths
from omr.errors import OmrError
from omr.request import TrainRequest
from omr.training.nemo_rl import config
from omr.workspace import Workspace


def numbers(run, space, **words):
    """What a plan says; `words` are of the request, but for what is known of the speed."""
    known = {key: words.pop(key) for key in ("step_seconds", "limit_seconds") if key in words}
    return plan.numbers(TrainRequest(run, "nemo-rl", recipe.SPLITS, **words), space, **known)


def test_plan_counts(tmp_path):
    space, run = Workspace(tmp_path), recipe.run("7b", 2)
    found = numbers(run, space, step_seconds=20, limit_seconds=4 * 3600)
    assert found.rows is None and found.hours == pytest.approx(16.67, abs=0.01)
    assert found.gpu_hours == pytest.approx(8533, abs=1) and found.links == 5  # 12,900 of 14,400 s each
    data = space.data("openmathreasoning", "round2")
    data.parent.mkdir()
    data.write_text("x")
    manifest.write(data, {}, rows=500_000, size=500_000 * 20_000, sha256="0")
    found = numbers(run, space)
    assert found.epochs == pytest.approx(6.144) and "guess" in found.speed_from
    assert found.tokens == pytest.approx(3000 * 1024 * 20_000 / plan.TOKEN_BYTES)
    assert numbers(run, space, limit=10_000, nodes=2).epochs == pytest.approx(307.2)
    shown = "\n".join(plan.lines(found, TrainRequest.of(run)))
    assert "500,000 rows, 6.14 epochs" in shown and "64 nodes of 8 GPUs" in shown and "GPU-hours" in shown
    assert plan.smoke(run) == "make train MODEL=7b ROUND=2 STEPS=20 NODES=2 LIMIT=10000 NAME=smoke"
    other = recipe.run("7b", 2, "paper", name="mine", edition="published")
    assert " VARIANT=paper EDITION=published STEPS=20 " in plan.smoke(other)


def test_plan_says_what_held_out_rows_cost(tmp_path):
    space, run = Workspace(tmp_path), recipe.run("7b", 1, name="held")
    data = space.data("openmathreasoning", "round1", name="held")
    data.parent.mkdir()
    data.write_text("x")
    facts = {"sha256": "0", "size": 9}
    splits = {"cot": {"rows": 6_000, **facts}, "tir": {"rows": 3_216, **facts}}
    held_out = {"problems": 600, "splits": splits}
    manifest.write(data, {}, rows=500_000, size=500_000 * 20_000, sha256="0", validation=held_out)
    (line,) = (text for text in plan.lines(numbers(run, space), TrainRequest.of(run)) if "held out" in text)
    # 4 times 9,216 rows at a third of the price, of 30,000 steps of 1,024 rows
    assert (
        line.split("held out")[1].strip() == "9,216 rows, their loss at 4 saves: about 0.04% more to compute"
    )


def test_the_disk_has_room_for_saves_for_recovery(tmp_path):
    space, run = Workspace(tmp_path), recipe.run("7b", 1)
    with_, without = numbers(run, space, recovery=500), numbers(run, space)
    assert with_.disk - without.disk == 2 * without.checkpoint


@pytest.mark.parametrize(("model", "nodes"), [("1.5b", 2), ("7b", 2), ("14b", 2), ("32b", 4)])
def test_the_smoke_run_is_one_that_can_be_submitted(model, nodes):
    run = recipe.run(model, 1)
    assert f" NODES={nodes} " in plan.smoke(run)
    smoke = recipe.run(model, 1, steps=20, name="smoke")
    base = Workspace(Path("/w")).model(model)
    folder = Workspace(Path("/w")).run(smoke)
    config.values(config.Inputs(smoke, folder, base, Path("/w/d.jsonl"), nodes=nodes))


def test_plan_says_what_a_lost_node_can_cost(tmp_path):
    space, run = Workspace(tmp_path), recipe.run("7b", 1)
    slow = numbers(run, space, step_seconds=20)
    request = TrainRequest.of(run)
    assert plan.at_risk(slow, request) == (
        "a lost node costs up to 41.7 hours, 21,333 GPU-hours: a save every 7,500 steps, and at a job's end;"
        " RECOVERY=300: up to 1.7 hours, 853 GPU-hours"
    )
    assert plan.at_risk(slow, TrainRequest.of(run, recovery=500)) == (
        "a lost node costs up to 2.8 hours, 1,422 GPU-hours, by RECOVERY=500;"
        " without it up to 41.7 hours, 21,333 GPU-hours"
    )
    quick = numbers(run, space, step_seconds=0.9)
    assert plan.at_risk(quick, request) is None
    assert "at risk" in "\n".join(plan.lines(slow, request))


@pytest.fixture
def measured(tmp_path):
    """7b's round 2 with its data; `report(**changed)` leaves what `make data-report` would."""
    space, run = Workspace(tmp_path), recipe.run("7b", 2)
    data = space.data("openmathreasoning", "round2")
    data.parent.mkdir()
    data.write_text("x")
    manifest.write(data, {}, rows=500_000, size=500_000 * 20_000, sha256="00ff")

    def report(**changed):
        splits = {
            "cot": SplitLengths(rows=300_000, counted=300_000, tokens=2_000_000_000, too_long=900),
            "tir": SplitLengths(rows=200_000, counted=200_000, tokens=1_000_000_000, too_long=34),
        }
        made = Lengths("00ff", "full", 32_768, 500_000, duplicates=0, edges=[0, 16], splits=splits)
        statistics.write(data, replace(made, **changed))
        found = numbers(run, space)
        return found, "\n".join(plan.lines(found, TrainRequest.of(run)))

    return report


def test_plan_uses_what_the_data_report_measured(measured):
    found, shown = measured()
    assert found.tokens == pytest.approx(3000 * 1024 * 6000) and found.too_long == 934
    assert "934 rows" in shown and "make data-report" not in shown


@pytest.mark.parametrize(
    ("changed", "tokens"),
    [
        ({"data": "other"}, 20_000 / plan.TOKEN_BYTES),  # the data was made anew since
        ({"longest": 4096}, 6000),  # another model's training length: the mean holds all the same
    ],
)
def test_a_report_of_other_data_or_another_length(measured, changed, tokens):
    found, shown = measured(**changed)
    assert found.tokens == pytest.approx(3000 * 1024 * tokens) and found.too_long is None
    assert "make data-report counts them" in shown


def test_a_damaged_report_says_so_in_a_line(measured, tmp_path):
    measured()
    path = statistics.path_of(Workspace(tmp_path).data("openmathreasoning", "round2"))
    path.write_text('{"data": "00ff"}')
    with pytest.raises(OmrError, match=r"round2\.lengths\.json: is damaged"):
        numbers(recipe.run("7b", 2), Workspace(tmp_path))
