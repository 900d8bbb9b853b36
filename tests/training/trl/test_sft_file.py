"""Rows of an SFT file by number."""

import json

import pytest

from omr.errors import OmrError
from omr.training.trl.sft_file import SftFile


def write_rows(path, rows, end="\n"):
    text = "\n".join(json.dumps({"input": a, "output": b}, ensure_ascii=False) for a, b in rows) + end
    path.write_text(text, encoding="utf-8")
    return path


PAIRS = [("ä\u2028b", "1"), ("x" * 100, "2"), ("", "3"), ("line\nbreak", "4")]


@pytest.mark.parametrize("end", ["\n", ""])
def test_rows_are_read_by_number(tmp_path, end):
    rows = SftFile(write_rows(tmp_path / "data.jsonl", PAIRS, end), tmp_path / "index.npy")
    assert [rows[n] for n in range(len(rows))] == PAIRS
    assert rows[2] == PAIRS[2]


def test_the_index_is_made_once_and_blocks_do_not_matter(tmp_path, monkeypatch):
    path = write_rows(tmp_path / "data.jsonl", PAIRS * 10)
    rows = SftFile(path, tmp_path / "index.npy")
    made = (tmp_path / "index.npy").stat().st_mtime_ns
    monkeypatch.setattr("omr.training.trl.sft_file.BLOCK", 7)
    again = SftFile(path, tmp_path / "index.npy")
    assert (tmp_path / "index.npy").stat().st_mtime_ns == made
    small = SftFile(path, tmp_path / "small.npy")
    assert [rows[n] for n in range(40)] == [again[n] for n in range(40)] == [small[n] for n in range(40)]


def test_a_limit_is_the_first_rows(tmp_path):
    rows = SftFile(write_rows(tmp_path / "data.jsonl", PAIRS), tmp_path / "index.npy", 3)
    assert len(rows) == 3
    assert rows.rows_in_file == 4
    assert len(SftFile(tmp_path / "data.jsonl", tmp_path / "index.npy", 30)) == 4


def test_an_index_of_another_file_is_refused(tmp_path):
    path = write_rows(tmp_path / "data.jsonl", PAIRS)
    SftFile(path, tmp_path / "index.npy")
    write_rows(path, PAIRS[:2])
    with pytest.raises(OmrError, match="no longer the file"):
        SftFile(path, tmp_path / "index.npy")


def test_an_index_with_a_bit_turned_gives_the_same_rows_or_is_named(tmp_path):
    """Wherever the bit is: an offset that is far off asks for no more memory than the file has."""
    path, index = write_rows(tmp_path / "data.jsonl", PAIRS), tmp_path / "index.npy"
    SftFile(path, index)
    whole, refused = index.read_bytes(), 0
    for at in range(len(whole)):
        for bit in range(8):
            index.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            try:
                rows = SftFile(path, index)
                assert [rows[n] for n in range(len(rows))] == PAIRS
            except OmrError as error:
                assert "index.npy" in str(error) and "remove" in str(error)
                refused += 1
    assert refused > 8 * 32  # all offsets but the first's bits that leave it where it was
