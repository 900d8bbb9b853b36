"""Answers as they are kept: whole lines, one writer, a cut line asked again."""

import json

import pytest

from omr.errors import OmrError
from omr.evaluation import samples
from omr.evaluation.samples import Answer, Sample, SampleId, Writer


def sample(number, text="It is \\boxed{7}.", problem="a"):
    return Sample(SampleId(problem, number), Answer(text, "7", True, 9, 1), 0.5)


@pytest.mark.parametrize("text", ["", "a\nb\u2028c", "小明 🙂", '{"x": 1}', "\0"])
def test_a_sample_is_read_as_it_was_written(tmp_path, text):
    with Writer(tmp_path) as writer:
        writer.add(sample(0, text))
    assert list(samples.read(tmp_path)) == [sample(0, text)]


def test_half_of_a_surrogate_pair_costs_no_line(tmp_path):
    with Writer(tmp_path) as writer:
        writer.add(sample(0, "\ud800"))
        writer.add(sample(1))
    assert [one.answer.text for one in samples.read(tmp_path)] == ["?", sample(1).answer.text]


def test_every_part_is_read_and_a_sample_counts_once(tmp_path):
    for part, numbers in (("0-of-2", [0, 2]), ("1-of-2", [1]), ("0-of-1", [2, 3])):
        with Writer(tmp_path, part) as writer:
            for number in numbers:
                writer.add(sample(number, part))
    assert {one.id.number: one.answer.text for one in samples.read(tmp_path)} == {
        **{0: "0-of-2", 1: "1-of-2"},
        **{2: "0-of-1", 3: "0-of-1"},
    }


@pytest.mark.parametrize("cut", [1, 5, 60, -1, -2])
def test_a_line_that_was_cut_is_dropped_by_the_next_writer(tmp_path, cut):
    path = tmp_path / "answers-0-of-1.jsonl"
    lines = [sample(n).as_line() for n in range(3)]
    path.write_text("".join(lines[:2]) + lines[2][:cut])
    assert [one.id.number for one in samples.read(tmp_path)] == ([0, 1, 2] if cut == -1 else [0, 1])
    with Writer(tmp_path) as writer:
        writer.add(sample(7))
    assert path.read_text() == "".join(lines[:2]) + sample(7).as_line()


def test_a_line_that_has_changed_is_passed_over(tmp_path):
    """Every single bit of it, also where it stays JSON of the right kinds."""
    path, line = tmp_path / "answers-0-of-1.jsonl", sample(0).as_line().encode()
    for at in range(8 * (len(line) - 1)):
        changed = bytearray(line)
        changed[at // 8] ^= 1 << at % 8
        path.write_bytes(changed)
        found = list(samples.read(tmp_path))
        assert found in ([], [sample(0)]), changed  # a blank between two keys means nothing


def test_a_line_of_an_older_version_has_no_checksum(tmp_path):
    row = json.loads(sample(0).as_line())
    del row[samples.CHECK]
    (tmp_path / "answers-0-of-1.jsonl").write_text(json.dumps(row) + "\n")
    assert list(samples.read(tmp_path)) == [sample(0)]


def test_a_file_of_one_cut_line_is_emptied(tmp_path):
    path = tmp_path / "answers-0-of-1.jsonl"
    path.write_text("x" * 200_000)
    with Writer(tmp_path):
        pass
    assert path.read_bytes() == b""


@pytest.mark.parametrize("line", ["{", "[]", "3", "null", "{}", '{"problem": "a"}', '{"number": 3}', "\xff"])
def test_a_line_of_something_else_is_passed_over(tmp_path, line):
    path = tmp_path / "answers-0-of-1.jsonl"
    path.write_bytes(line.encode("latin-1") + b"\n" + sample(1).as_line().encode())
    assert list(samples.read(tmp_path)) == [sample(1)]


def test_a_line_with_a_key_of_a_later_version_is_asked_again(tmp_path):
    row = {**json.loads(sample(0).as_line()), "later": 1}
    (tmp_path / "answers-0-of-1.jsonl").write_text(json.dumps(row) + "\n")
    assert list(samples.read(tmp_path)) == []


def test_a_part_has_one_writer(tmp_path):
    refused = pytest.raises(OmrError, match=r"answers-1-of-2.jsonl is being made by process")
    with Writer(tmp_path, "1-of-2"), Writer(tmp_path, "0-of-2"), refused:
        Writer(tmp_path, "1-of-2").__enter__()
    with Writer(tmp_path, "1-of-2"):
        pass


def test_all_parts_are_dropped_unless_one_has_a_writer(tmp_path):
    for part in ("0-of-2", "1-of-2"):
        with Writer(tmp_path, part) as writer:
            writer.add(sample(int(part[0])))
    with Writer(tmp_path) as writer:
        with Writer(tmp_path, "1-of-2"), pytest.raises(OmrError, match=r"answers-1-of-2.jsonl is being made"):
            writer.clear()
        writer.clear()
        writer.add(sample(7))
    assert [one.id.number for one in samples.read(tmp_path)] == [7]
