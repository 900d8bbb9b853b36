"""A killed evaluation's remainder, shared out anew by other SHARDS: every answer is asked for once."""

import pytest

from omr.evaluation import samples
from omr.evaluation.evaluation import Part
from omr.evaluation.samples import Answer, Sample, SampleId, Writer

WANTED = [SampleId(problem, number) for number in range(8) for problem in ("a", "b", "c")]


def ask(folder, part, most=None):
    """What a task asks for: its part's samples that no file has; it is killed after `most`, within a line."""
    known = {sample.id for sample in samples.read(folder)}
    missing = [sample for sample in WANTED if part.has(sample) and sample not in known]
    with Writer(folder, part.name) as writer:
        for sample in missing[:most]:
            writer.add(Sample(sample, Answer("text", "1", True, 3), 0.1))
    if most is not None:
        with (folder / f"answers-{part.name}.jsonl").open("a") as out:
            out.write('{"problem": "cut')
    return missing[:most]


@pytest.mark.parametrize("shards", [(1, 2), (2, 1), (2, 3), (3, 2), (4, 4), (2, 5, 3, 1)])
def test_nothing_is_asked_twice(tmp_path, shards):
    asked = []
    for turn, of in enumerate(shards, 1):
        most = None if turn == len(shards) else 2
        for number in range(of):
            asked += ask(tmp_path, Part(number, of), most)
    assert sorted(asked, key=str) == sorted(WANTED, key=str)
    assert {sample.id for sample in samples.read(tmp_path)} == set(WANTED)
