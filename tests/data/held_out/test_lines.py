"""`make data VALIDATION=`: no problem on both sides, whichever split it is in, and no row is lost."""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from omr import recipe
from omr.data import mixing, scratch
from omr.data.held_out import choice, lines
from omr.errors import RequestError
from omr.files import sha256
from omr.recipe import Prompt
from omr.run import validation
from omr.tiny import corpus
from tests.data.kit import make

ROWS = {"cot": 300, "tir": 150, "genselect": 100}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    corpus.write_corpus(folder, rows=ROWS)
    return folder


def words(raw, *more, name="held"):
    named = ("--name", name) if name else ()
    return ("--dataset", "tiny", "--raw", raw, "--allow", "rows", *named, *more)


def data(workspace, name="-held", round_="round1"):
    return Path(workspace) / f"data/tiny-{round_}{name}.jsonl"


def rows(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def problems(rows):
    """The sums that rows of tiny ask for; the prompt around them has other numbers, of one digit."""
    return {tuple(re.findall(r"[0-9]{2}", row["input"])[:2]) for row in rows}


def held_out(path):
    return {file.split: file.path for file in validation.files_of(path)}


@pytest.fixture(scope="module")
def made(tmp_path_factory, raw):
    workspace = tmp_path_factory.mktemp("made")
    make(workspace, *words(raw, name=None))
    said = make(workspace, *words(raw, "--validation", "0.1"))
    return workspace, said.stdout


def test_the_rows_are_those_of_the_recipe_each_on_one_side(made):
    workspace, said = made
    files = held_out(data(workspace))
    assert list(files) == ["cot", "tir", "genselect"]
    out = [line for path in files.values() for line in path.read_bytes().splitlines()]
    kept = data(workspace).read_bytes().splitlines()
    assert Counter(kept + out) == Counter(data(workspace, "").read_bytes().splitlines())
    manifest = json.loads(data(workspace).with_suffix(".manifest.json").read_text())
    assert manifest["rows"] == len(kept) and manifest["inputs"]["validation"]["share"] == 0.1
    assert f"{len(out):,} rows of {manifest['validation']['problems']:,} problems held out" in said
    for split, path in files.items():
        facts = {"sha256": sha256(path), "size": path.stat().st_size, "rows": len(rows(path))}
        assert manifest["validation"]["splits"][split] == facts
        assert manifest["splits"][split]["held_out"] == facts["rows"]
        assert manifest["splits"][split]["kept"] == ROWS[split] - facts["rows"]
        assert {row["inference_mode"] for row in rows(path)} == {split}


def test_no_problem_is_on_both_sides(made):
    workspace, _ = made
    files = held_out(data(workspace))
    here = problems(row for path in files.values() for row in rows(path))
    there = problems(rows(data(workspace)))
    assert here and there and not here & there
    made = json.loads(data(workspace).with_suffix(".manifest.json").read_text())
    assert len(here) == made["validation"]["problems"]
    of_genselect, of_cot = (problems(rows(files[split])) for split in ("genselect", "cot"))
    assert of_genselect - of_cot, "genselect has problems of its own here, which its prompt alone tells"


def test_the_second_round_holds_out_the_same_problems(made, raw):
    workspace, _ = made
    make(workspace, *words(raw, "--validation", "0.1", "--round", "2"))
    first = problems(row for path in held_out(data(workspace)).values() for row in rows(path))
    second = data(workspace, round_="round2")
    assert problems(row for path in held_out(second).values() for row in rows(path)) <= first
    assert not problems(rows(second)) & first


def test_nothing_of_it_without_validation(made):
    workspace, _ = made
    text = data(workspace, "").with_suffix(".manifest.json").read_text()
    assert "validation" not in json.loads(text)["inputs"] and '"held_out"' not in text
    assert not validation.folder_of(data(workspace, "")).exists()
    assert validation.files_of(data(workspace, "")) == ()


def bytes_of(path):
    return [file.read_bytes() for file in (path, *held_out(path).values())]


@pytest.mark.parametrize("more", [("--workers", 1), ("--memory", "400M"), ("--seed", 0)])
def test_the_machine_decides_nothing(tmp_path, made, raw, more):
    make(tmp_path, *words(raw, "--validation", "0.1", *more))
    assert bytes_of(data(tmp_path)) == bytes_of(data(made[0]))


def test_parts_make_the_same(tmp_path, made, raw):
    for part in ("plan", "0/2", "1/2"):
        make(tmp_path, *words(raw, "--validation", "0.1", "--part", part))
    make(tmp_path, *words(raw, "--validation", "0.1"))
    assert bytes_of(data(tmp_path)) == bytes_of(data(made[0]))


def test_the_problems_of_a_file(tmp_path, made, raw):
    texts = [row["problem"] for row in corpus.split_rows("cot", 3)]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({"problem": text}) + "\n" for text in texts))
    make(tmp_path, *words(raw, "--validation", path))
    wanted = problems({"input": text} for text in texts)
    found = [row for file in held_out(data(tmp_path)).values() for row in rows(file)]
    assert problems(found) == wanted and not problems(rows(data(tmp_path))) & wanted
    path.write_text(path.read_text() + '{"problem": "What is 1+1?"}\n')
    said = make(tmp_path, *words(raw, "--validation", path, name="four")).stdout
    assert f"of {len(wanted)} of the file's {len(wanted) + 1} problems held out" in said
    said = make(tmp_path, *words(raw, "--validation", path), check=False)
    assert said.returncode == 2 and "validation.problems was " in said.stderr


@pytest.mark.parametrize("killed_in", ["mix", "write", "give_name", "replace"])
def test_killed_and_run_again(tmp_path, made, raw, killed_in, monkeypatch):
    where = {"mix": (mixing, "mix"), "replace": (Path, "replace")}.get(killed_in, (lines, killed_in))
    real = getattr(*where)

    def killed(*given, **named):
        if killed_in != "replace":
            real(*given, **named)  # it was done, and the process ended before anything else
            raise KeyboardInterrupt
        if Path(given[0]).name == mixing.PART:
            raise KeyboardInterrupt
        return real(*given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(*where, killed)
        with pytest.raises((KeyboardInterrupt, AssertionError)):
            make(tmp_path, *words(raw, "--validation", "0.1"))
    assert not data(tmp_path).with_suffix(".manifest.json").exists()
    make(tmp_path, *words(raw, "--validation", "0.1"))
    assert bytes_of(data(tmp_path)) == bytes_of(data(made[0]))
    assert not list((tmp_path / "data").glob(".*.work"))


def test_lines_that_a_crash_tore_are_made_again(tmp_path, made, raw, monkeypatch):
    real, torn = lines.write, []

    def tear(work, bucket, shards):
        if not torn:
            name = shards[0].name
            parts = scratch.parts(bucket + 1)
            path = scratch.lines_of(work, name, parts - 1)
            torn.append(path.write_bytes(path.read_bytes()[:-1] + b"?"))
        return real(work, bucket, shards)

    monkeypatch.setattr(lines, "write", tear)
    make(tmp_path, *words(raw, "--validation", "0.1"))
    assert torn and bytes_of(data(tmp_path)) == bytes_of(data(made[0]))


def test_finished_changed_and_damaged(tmp_path, raw):
    asked = words(raw, "--validation", "0.1")
    make(tmp_path, *asked)
    assert "(finished already)" in make(tmp_path, *asked).stdout
    other = make(tmp_path, *words(raw, "--validation", "0.2"), check=False)
    assert other.returncode == 2 and "validation.share was 0.1, is 0.2" in other.stderr
    plain = make(tmp_path, *words(raw), check=False)
    assert plain.returncode == 2 and "validation" in plain.stderr
    path = held_out(data(tmp_path))["tir"]
    path.write_bytes(path.read_bytes()[:-1])
    damaged = make(tmp_path, *asked, check=False)
    assert damaged.returncode == 1 and f"{path}: is not as make data left it; FORCE=1" in damaged.stderr
    make(tmp_path, *asked, "--force")
    assert "(finished already)" in make(tmp_path, *asked).stdout
    make(tmp_path, *words(raw, "--force"))
    assert not path.parent.exists() and validation.files_of(data(tmp_path)) == ()


def test_every_row_is_held_out(tmp_path, raw):
    path = tmp_path / "all.jsonl"
    texts = {row["problem"] for split, count in ROWS.items() for row in corpus.split_rows(split, count)}
    path.write_text("".join(json.dumps({"problem": text}) + "\n" for text in texts))
    said = make(tmp_path, *words(raw, "--validation", path), check=False)
    assert said.returncode == 1 and "holds out every row of tiny-round1-held.jsonl; name fewer" in said.stderr


def test_the_home_of_nobody(tmp_path, raw):
    said = make(tmp_path, *words(raw, "--validation", "~nosuchuser/x.jsonl"), check=False)
    assert said.returncode == 2 and said.stderr.count("\n") == 1
    assert "VALIDATION=~nosuchuser/x.jsonl names the home of nobody here" in said.stderr


def test_how_a_problem_is_told_is_an_input(tmp_path):
    """Work that was begun with another rule is not gone on with, nor is such a file finished."""
    tiny = recipe.CORPORA["tiny"]
    prompts = tmp_path / "prompts"
    shutil.copytree(tiny.prompt_folder, prompts)
    held_out, found = choice.of(tiny, "0.1"), []
    own = replace(tiny, prompt_folder=prompts)
    for changed in (own, replace(own, same_problem=None)):
        found.append(choice.inputs(changed, held_out, tiny.splits))
    asks = prompts / "config/tiny/genselect.yaml"
    asks.write_text(asks.read_text().replace("is right", "is the right one"))
    found.append(choice.inputs(own, held_out, tiny.splits))
    found.append(choice.inputs(own, held_out, ("cot",)))
    assert all(one["share"] == 0.1 for one in found)
    assert len({one["told_by"] for one in found}) == 4


def test_a_split_of_whole_prompts_beside_another(tmp_path):
    tiny = recipe.CORPORA["tiny"]
    whole = replace(tiny, prompts={**tiny.prompts, "genselect": Prompt(None)})
    held_out = choice.of(tiny, "0.1")
    with pytest.raises(RequestError, match=r"genselect has whole prompts, .*or leave genselect out by MODES"):
        choice.rule(whole, held_out, tiny.splits)
    choice.rule(whole, held_out, ("genselect",))  # alone it is compared with itself


def test_a_dry_run_says_where_they_would_be(tmp_path, raw):
    said = make(tmp_path, *words(raw, "--validation", "0.1", "--dry_run")).stdout
    assert f"# VALIDATION=0.1 -> {tmp_path}/data/tiny-round1-held.validation" in said
    assert not (tmp_path / "data").exists()


def test_it_needs_a_name(tmp_path, raw):
    said = make(tmp_path, *words(raw, "--validation", "0.1", name=None), check=False)
    assert (
        said.returncode == 2
        and "VALIDATION=0.1 makes another file than the recipe's; add NAME=" in said.stderr
    )


def test_nothing_is_held_out(tmp_path, raw):
    said = make(tmp_path, *words(raw, "--validation", "1e-9"), check=False)
    assert (
        said.returncode == 1 and "VALIDATION=1e-9 holds out no row of tiny-round1-held.jsonl" in said.stderr
    )
    assert not data(tmp_path).exists()


def reworded(tmp_path, raw, numbers):
    """The words for a corpus in which these rows of genselect ask otherwise."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in raw.rglob("*.parquet"):
        copy = tmp_path / "raw" / path.relative_to(raw)
        copy.parent.mkdir(parents=True, exist_ok=True)
        rows = pq.read_table(path).to_pylist()
        for number in numbers if path.name.startswith("genselect") else ():
            rows[number]["problem"] = "Choose one.\n" + rows[number]["problem"].partition("\n")[2]
        pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(path)), copy)
    return words(tmp_path / "raw", "--validation", "0.1")


def test_a_split_in_another_prompt_is_refused_before_a_row_is_formatted(tmp_path, raw):
    asked = reworded(tmp_path, raw, range(100))
    for more in ((), ("--bad_rows", "skip")):
        said = make(tmp_path, *asked, *more, check=False)
        assert said.returncode == 2
        assert "none of 16 rows of genselect has a problem where tiny/genselect has it" in said.stderr
    assert not data(tmp_path).exists()
    make(tmp_path, *asked, "--modes", "cot,tir")


def test_a_row_in_another_prompt(tmp_path, raw):
    asked = reworded(tmp_path, raw, [3])
    said = make(tmp_path, *asked, check=False)
    assert said.returncode == 1
    assert "row 3: its problem is not where tiny/genselect has it" in said.stderr
    assert "1 malformed left out" in make(tmp_path, *asked, "--bad_rows", "skip").stdout
