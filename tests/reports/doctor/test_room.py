"""Disk, inodes and memory beside what is planned."""

import pytest

from omr import recipe
from omr.processes import available_memory
from omr.reports.doctor import room
from omr.reports.doctor.sizes import Sizes
from omr.training.trl import memory as one_box

from .kit import asked, held, row

PLANNED = Sizes((("the data", 100_000_000, 100),))


@pytest.mark.parametrize(("free", "state"), [(10**9, "ok"), (110_000_000, "warn"), (99_000_000, "fix")])
def test_space(tmp_path, free, state):
    held(room.space(free, PLANNED, tmp_path), state, "100.0 MB planned", "" if state == "ok" else "WORKSPACE")


@pytest.mark.parametrize(("free", "state"), [(1000, "ok"), (110, "warn"), (99, "fix")])
def test_inodes(tmp_path, free, state):
    held(room.inodes(free, PLANNED, tmp_path), state, "100 files", "" if state == "ok" else "WORKSPACE")


def test_a_workspace_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    held(
        row(room.room(tmp_path / "file" / "w", PLANNED), "workspace"), "fix", "is not writable", "make it so"
    )
    assert [check.state for check in room.room(tmp_path / "w", PLANNED)][:2] == ["ok", "ok"]
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("wanted", "available", "state", "advice"),
    [(10**9, 2 * 10**9, "ok", ""), (8 * 10**9, 5 * 10**9, "fix", "MEMORY=4G"), (1, None, "warn", "MEMORY")],
)
def test_memory_of_the_data_stage(wanted, available, state, advice):
    held(room.of_workers(wanted, available), state, "", advice)


@pytest.mark.parametrize(
    ("need", "runner", "state", "advice"),
    [
        (40e9, "slurm", "ok", ""),
        (75e9, "slurm", "warn", "make plan"),
        (99e9, "slurm", "fix", "NODES=128"),
        (99e9, "docker", "fix", "RUNNER=slurm"),
    ],
)
def test_memory_of_a_gpu(need, runner, state, advice):
    held(room.of_gpu(need, 80e9, recipe.model("7b"), runner), state, "a card has 80.0 GB", advice)


def test_a_chain_on_too_few_nodes_does_not_fit(tmp_path):
    fits = room.memory(asked("train", tmp_path), "slurm")
    held(row(fits, "GPU memory"), "ok", "64 × 8 GPUs")
    held(
        row(room.memory(asked("train", tmp_path, nodes=1, model="32b"), "slurm"), "GPU memory"),
        "fix",
        "1 × 8",
    )


def test_no_gpu_is_visible(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "gpu_memory", lambda: [])
    held(row(room.memory(asked("train", tmp_path), "docker"), "GPU memory"), "fix", "no GPU", "RUNNER=slurm")
    monkeypatch.setattr(room, "gpu_memory", lambda: [80 * 10**9] * 8)
    assert row(room.memory(asked("train", tmp_path), "docker"), "GPU memory").found.count("1 × 8 GPUs") == 1


def test_the_memory_that_is_free_is_the_kernels_word():
    assert 0 < available_memory() < 10**14
    assert one_box.available_memory is available_memory
