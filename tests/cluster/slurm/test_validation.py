"""A chain whose data has held-out rows: measured at the saves, and at the end final/ beside its parts."""

import json

import pytest

from omr.run import metrics, validation

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


def test_held_out_rows_are_measured_all_the_way(site):
    site.run(
        *("bin/data.py", "--dataset", "tiny", "--validation", "0.02", "--name", "held", "--limit", "2000"),
        RUNNER="host",
    )
    site.train("held", links=2, OMR_STEP_DELAY="0", TIME="5", MARGIN="30")
    states = site.finish("held")
    assert states["validate"] == states["average"] == "COMPLETED", site.logs("held")
    folder = site.folder("held")
    measured = [row for row in metrics.read(folder.metrics) if validation.LOSS in row]
    assert [row["step"] for row in measured] == [4, 8, 12, 16, 20, 24]
    found = validation.losses_of(folder)
    assert [*found.models] == ["final", "step_12", "step_16", "step_20", "step_24"]
    names = {validation.LOSS, *(validation.loss_of(split) for split in ("cot", "tir", "genselect"))}
    assert all({*losses} == names for losses in found.models.values())
    # The training and make validate measure alike: its last save is the last of the parts.
    assert found.models["step_24"] == pytest.approx({n: measured[-1][n] for n in names}, rel=1e-4)
    jobs = json.loads(folder.jobs_json.read_text())["jobs"]
    assert [job["key"] for job in jobs][-3:] == ["convert", "average", "validate"]
