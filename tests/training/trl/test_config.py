"""trl.yaml of a run: what of it an edition decides, and that it is read back as it was written."""

from dataclasses import replace
from pathlib import Path

import pytest

from omr import recipe
from omr.run.frozen import BaseModel, FrozenRun, TrainingData
from omr.run.validation import ValidationFile
from omr.training.trl.config import engine_config, read_config, to_yaml, write_config
from omr.workspace import RunFolder


def began(run):
    data = TrainingData(Path("/data.jsonl"), "0" * 64, 10, 4)
    return FrozenRun(run, "trl", BaseModel(Path("/base"), "1" * 64), data, limit=None, overrides=None)


@pytest.mark.parametrize(
    ("edition", "clip", "longest"),
    [("pinned", 1.0, 32_768), ("published", 0.0, 32_768), ("current", 0.0, 32_767)],
)
def test_an_edition_decides_the_clip_and_the_longest_row_alone(edition, clip, longest):
    run = recipe.run("7b", name="box")
    pinned, found = (engine_config(began(replace(run, edition=name))) for name in ("pinned", edition))
    assert (found.clip, found.longest) == (clip, longest)
    same = {"clip": pinned.clip, "longest": pinned.longest}
    if edition != "pinned":
        assert found.title != pinned.title and found.identity != pinned.identity
        same |= {"title": pinned.title, "identity": pinned.identity}
    assert replace(found, **same) == pinned


HELD_OUT = tuple(ValidationFile(s, Path(f"/d.validation/{s}.jsonl"), "2" * 64, 9, 3) for s in ("cot", "tir"))


@pytest.mark.parametrize("held_out", [(), HELD_OUT])
@pytest.mark.parametrize("edition", recipe.EDITIONS)
def test_what_is_written_is_read_back(edition, held_out, tmp_path):
    found = began(recipe.run("tiny", edition=edition))
    config = engine_config(replace(found, data=replace(found.data, validation=held_out)))
    assert config.validation == held_out
    write_config(RunFolder(tmp_path), config)
    assert read_config(RunFolder(tmp_path)) == config


def test_a_run_without_held_out_rows_has_the_file_that_it_had_before_there_were_any():
    config = engine_config(began(recipe.run("micro")))
    assert to_yaml(config) == (Path(__file__).parent / "golden" / "micro-round1.yaml").read_text()
