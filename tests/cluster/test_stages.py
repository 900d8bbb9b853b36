"""Plain stages as jobs of their own: the data stage in shards, the import of an image, what is cut off."""

from pathlib import Path

import pytest

from omr.cluster import stages
from omr.cluster.jobs import Site
from omr.cluster.stages import Stage

ROOT = Path("/omr")


def test_data_shards():
    logs = Path("/workspace/logs")
    stage = Stage(
        *("data", "data", "bin/data.py", logs, "/workspace/logs/data.jobs.json"),
        args=("--dataset", "tiny"),
        settings={"FORCE": "1"},
    )
    listed = stages.data_jobs(stage, Site(nodes=1, gpus=0, settings={"WORKERS": "16"}), 8)
    assert [(job.key, job.after) for job in listed] == [
        ("data-plan", ()),
        ("data-format", (("afterok", "data-plan"),)),
        ("data", (("afterok", "data-format"),)),
    ]
    assert listed[0].sbatch_command({}, ROOT)[-4:] == ["--dataset", "tiny", "--part", "plan"]
    assert "--array=0-7" in listed[1].options and listed[1].env["STAGE_PARTS"] == "8"
    assert listed[2].sbatch_command({"data-format": "5"}, ROOT)[-2:] == ["--dataset", "tiny"]
    assert all("--cpus-per-task=16" in job.options and job.env["FORCE"] == "1" for job in listed)


@pytest.mark.parametrize(
    ("image", "source"),
    [
        ("nvcr.io/team/omr:train", "docker://nvcr.io#team/omr:train"),
        ("localhost:5000/omr:train", "docker://localhost:5000#omr:train"),
        ("team/omr:train", "docker://team/omr:train"),
        ("omr:train", "dockerd://omr:train"),
    ],
)
def test_where_enroot_finds_an_image(image, source):
    assert stages.enroot_source(image) == source
