"""Disk by stat alone."""

import os

from omr.reports.workspace.sizes import Size, measure


def test_files_and_bytes_of_folders_and_files(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/one").write_bytes(b"12345")
    (tmp_path / "a/b/two").write_bytes(b"123")
    file = tmp_path / "c.txt"
    file.write_bytes(b"1")
    gone = tmp_path / "gone"
    found = measure([tmp_path / "a", file, gone])
    assert found == {tmp_path / "a": Size(2, 8), file: Size(1, 1), gone: Size()}


def test_links_lead_nowhere_else(tmp_path):
    """A cycle would never end, and what lies outside is not the workspace's."""
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (outside / "large").write_bytes(b"x" * 10_000)
    os.symlink(outside, inside / "out")
    os.symlink(inside, inside / "round")
    found = measure([inside, inside / "out"])
    assert found[inside].files == 2 and found[inside].bytes < 1000 and found[inside / "out"].bytes < 1000


def test_sizes_add_up():
    assert Size(2, 8) + Size(1, 1) - Size(3, 4) == Size(0, 5)
