"""The passports that were recorded, side by side."""

import shutil

from omr import manifest
from omr.reports.run import page, passports
from tests.reports import kit


def section(folder):
    return passports.section(folder, page.look(folder).began, "MODEL=tiny ROUND=1")


def test_stations_in_their_order_and_steps_that_are_alike_in_one(tmp_path):
    _, folder = kit.begin(tmp_path)
    kit.finish(folder)
    for step, theta in ((2, 500000.0), (4, 500000.0), (6, 1.0)):
        folder.hf_step(step).mkdir(parents=True)
        manifest.write(folder.hf_step(step), {}, passport={"rope_theta": theta})
    found = section(folder)
    assert found.header == ["", "published", "patched", "step 2 to 4", "step 6", "final"]
    rows = {row[0]: row[1:] for row in found.rows}
    assert rows["rope_theta"] == ["10000", "500000", "=", "1", "500000"]
    shutil.rmtree(folder.hf)
    assert section(folder).header == ["", "published", "patched", "final"]


def test_nothing_recorded_says_what_makes_it(tmp_path):
    _, folder = kit.begin(tmp_path)
    manifest.write(page.look(folder).began.base.path, {}, files={})
    assert section(folder).text == "None was recorded yet: make model and make train MODEL=tiny ROUND=1."
