"""Which checkpoints stand, were averaged, were set aside, are gone or to come."""

from omr import manifest
from omr.reports.run import checkpoints, page
from tests.reports import kit


def states(folder):
    return {one.step: one.state for one in page.look(folder).saved}


def test_each_state(tmp_path):
    _, folder = kit.begin(tmp_path, steps=24)  # saved and averaged at 6, 12, 18, 24
    kit.log(folder, 0, "link 1 of 2, job 7: trains from the start")
    kit.log(folder, 1, "link 1 of 2, job 7: saved step 9 of 24")
    folder.metrics.write_text('{"step": 14, "loss": 1}\n')
    kit.log(folder, 2, "link 2 of 2, job 8: saved step 13 of 24")
    for name in ("step_10", "step_12", "damaged_step_13", ".gone_step_5"):
        (folder.checkpoints / name).mkdir(parents=True)
    found = {6: "gone", 9: "gone", 10: "stands", 12: "stands", 13: "aside", 18: "to come", 24: "to come"}
    assert states(folder) == found
    section = checkpoints.section(page.look(folder).saved)
    assert section.text == "Removed as newer ones stood: 1 more."
    assert section.rows == [
        ["6", "1", "by the schedule", "removed", "yes"],
        ["10", "1", "RECOVERY, or time was up", "stands in checkpoints/", "no"],
        ["12", "1", "by the schedule", "stands in checkpoints/", "yes"],
        ["13", "1", "time was up", "set aside: checkpoints/damaged_step_13", "no"],
        ["18, 24", "2", "by the schedule", "to come", "yes"],
    ]


def test_what_was_averaged_is_what_final_says(tmp_path):
    _, folder = kit.begin(tmp_path)
    kit.finish(folder)
    manifest.write(folder.final, {"steps": {"6": "a", "8": "b"}})
    folder.checkpoint(6).rmdir()
    assert states(folder) == {2: "stands", 4: "stands", 6: "averaged", 8: "averaged"}
    words = {one.step: one.words for one in page.look(folder).saved}
    assert words[6] == "averaged; removed since" and words[8] == "averaged; stands in checkpoints/"


def test_many_that_are_alike_are_one_line():
    alike = [
        checkpoints.Standing(n, "stands", "by the schedule", False, ("checkpoints/",))
        for n in range(20, 340, 20)
    ]
    [row] = checkpoints.section(alike).rows
    assert row[:2] == ["20, 40, … 320", "16"]
