"""What a start of a link says goes to its own log and to the run's event log."""

from omr import recipe
from omr.cluster.allocation.attempt import Attempt
from omr.request import TrainRequest
from omr.workspace import RunFolder

RUN = recipe.run("tiny", 1, steps=24, name="x")


def test_an_attempt_s_lines_are_in_the_event_log(tmp_path, capsys):
    given = Attempt(TrainRequest.of(RUN), RunFolder(tmp_path), None, "7", 1, "2 of 4", None)
    given.log("trains on from step 8")
    line = (tmp_path / "story.txt").read_text()
    assert line.endswith(" link 2 of 4, job 7, start 2: trains on from step 8\n")
    assert capsys.readouterr().out == "trains on from step 8\n"
