"""`make average`: exactly the averaged steps become final/; a fault is one line and leaves no final/."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from omr import manifest, recipe
from omr.errors import OmrError, RequestError
from omr.models import weights
from omr.models.final import average, mean
from omr.run import frozen
from omr.settings import ROOT
from tests.models.kit import HEAD, TAIL, at_once, save, write_shard

A, B, C, D = recipe.run("tiny", 1).schedule.averaged


def bin_average(workspace, *words):
    command = [sys.executable, str(ROOT / "bin/average.py"), "--model", "tiny", *words]
    env = {**os.environ, "WORKSPACE": str(workspace.root), "OMR_ENV_FILE": os.devnull}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def content(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "manifest.json"}


@pytest.mark.slow
def test_final(trained):
    workspace, run = trained
    folder = workspace.run(run)
    code, out, err = bin_average(workspace)
    assert (code, err) == (0, ""), err
    assert f"the mean of step_{A}, step_{B}, step_{C} and step_{D}; chat template checked on 9 rows" in out
    made = manifest.read(folder.final)
    for step in run.schedule.averaged:
        [entry] = made["averaged"][f"step_{step}"].values()
        assert entry == manifest.read(folder.hf_step(step))["files"]["model.safetensors"]
    assert sorted(p.name for p in folder.root.glob(".final*")) == []
    card = (folder.final / "README.md").read_text()
    for word in (f"{A}, {B}, {C}, {D}", "rope_theta 500,000", made["inputs"]["data"][:16], "license:"):
        assert word in card

    assert at_once(lambda: bin_average(workspace)[1]).endswith("(finished already)")
    first = content(folder.final)
    assert bin_average(workspace, "--force")[0] == 0
    assert content(folder.final) == first, "made again it is the same to the byte"

    for step in run.schedule.averaged:  # as prune does
        shutil.rmtree(folder.hf_step(step))
    assert average.finished(run, workspace) is not None


def test_round_2_starts_from_it(trained):
    workspace, run = trained
    average.make(run, workspace)
    second = recipe.run("tiny", 2)
    assert frozen.base_of(second, workspace) == workspace.run(run).final
    before = frozen.identity(workspace.run(run).final)
    (workspace.run(run).final / "README.md").write_text("another card")
    assert frozen.identity(workspace.run(run).final) == before


def test_dry_run(trained):
    workspace, run = trained
    shutil.rmtree(workspace.run(run).hf_step(B))
    code, out, _ = bin_average(workspace, "--dry-run")
    assert code == 0 and f"hf/step_{B}  (not there yet)" in out
    assert not list(workspace.run(run).root.glob("*final*"))


def remove(name):
    return lambda folder: shutil.rmtree(folder.hf / name)


def add(name):
    return lambda folder: (folder.hf / name).mkdir()


def unfinish(folder):
    (folder.hf_step(C) / "manifest.json").unlink()


def change(step, name, old, new):
    def spoil(folder):
        path = folder.hf_step(step) / name
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new, 1))

    return spoil


def truncate(folder):
    path = folder.hf_step(B) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def flip(folder):
    """One bit of one weight, which no header tells."""
    path = folder.hf_step(B) / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def retensor(folder, edit):
    """Rewrite a step's weights and its manifest with them: a checkpoint that was converted so."""
    path = folder.hf_step(B) / "model.safetensors"
    part = weights.shard(path)
    data = path.read_bytes()
    tensors = {t.name: (t.dtype, t.shape, data[t.start : t.end]) for t in part.tensors}
    write_shard(path, edit(tensors))
    made = manifest.read(folder.hf_step(B))
    made["files"]["model.safetensors"] = {"size": path.stat().st_size, "sha256": "x"}
    (folder.hf_step(B) / "manifest.json").write_text(json.dumps(made))


def nan(tensors):
    dtype, shape, data = tensors["model.norm.weight"]
    return {**tensors, "model.norm.weight": (dtype, shape, bytes.fromhex("0000c07f") + data[4:])}


FAULTS = [
    (
        "a step is missing",
        remove(f"step_{B}"),
        f"step_{B} is missing (there: step_{A}, step_{C} and step_{D})",
    ),
    (
        "all but one",
        lambda f: [remove(f"step_{n}")(f) for n in (A, C, D)],
        f"step_{A}, step_{C} and step_{D} are missing",
    ),
    ("a folder of another name", add(f"step_{B}_old"), f"step_{B}_old: is no step of this run"),
    ("a folder of a half-written name", add(f"tmp_step_{B}"), f"tmp_step_{B}: is no step of this run"),
    ("a step beyond the last", add("step_3200"), "step_3200: is no step of this run"),
    ("no manifest", unfinish, f"step_{C}: is half-written"),
    ("a truncated shard", truncate, f"step_{B}/model.safetensors: has"),
    ("a flipped bit", flip, f"step_{B}/model.safetensors: changed since step_{B} was converted"),
    (
        "a changed config",
        change(D, "config.json", b"131072", b"4096"),
        f"step_{D}/config.json: changed since",
    ),
    ("NaN", lambda f: retensor(f, nan), f"model.norm.weight is nan at 0, so step_{B}"),
    (
        "a key is missing",
        lambda f: retensor(f, lambda t: {k: v for k, v in t.items() if k != "model.norm.weight"}),
        f"model.norm.weight is in step_{A} and not in step_{B}",
    ),
    (
        "an integer tensor",
        lambda f: retensor(f, lambda t: {**t, "model.norm.weight": ("I32", *t["model.norm.weight"][1:])}),
        f"model.norm.weight has dtype I32, in step_{A} it has F32",
    ),
]


@pytest.mark.parametrize(("plant", "line"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_faults(trained, plant, line):
    workspace, run = trained
    folder = workspace.run(run)
    plant(folder)
    with pytest.raises(OmrError) as error:
        average.make(run, workspace)
    assert line in str(error.value) and "\n" not in str(error.value)
    assert not folder.final.exists()


def test_what_was_not_touched_is_not_hashed_again(trained, monkeypatch):
    workspace, run = trained
    path = workspace.run(run).hf_step(B) / "model.safetensors"
    hashed, real = set(), mean.files.sha256

    def watched(file):
        if file.parent.parent == workspace.run(run).hf and file.suffix == ".safetensors":
            hashed.add(file)
        return real(file)

    monkeypatch.setattr(mean.files, "sha256", watched)
    first = average.make(run, workspace)
    assert hashed == set()
    path.touch()
    assert average.make(run, workspace, force=True)["averaged"] == first["averaged"]
    assert hashed == {path}


def test_verify_hashes_everything(trained):
    """A bit that flips on the disk, between the sampled blocks, changes neither size nor time."""
    workspace, run = trained
    path = workspace.run(run).hf_step(B) / "model.safetensors"
    before = path.stat()
    known = manifest.BLOCKS * manifest.BLOCK
    assert before.st_size < known, "the tiny file is sampled whole: one block is enough here"
    made = manifest.read(path.parent)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    made["seen"]["model.safetensors"] = manifest.fingerprint(
        path
    ).as_json()  # as if the bit were between the blocks
    (path.parent / "manifest.json").write_text(json.dumps(made))
    with pytest.raises(OmrError, match="changed since"):
        average.make(run, workspace, verify=True)
    assert average.make(run, workspace)["averaged"][path.parent.name] == {
        "model.safetensors": made["files"]["model.safetensors"]
    }


def test_deadline_saves_may_stand_beside(trained):
    workspace, run = trained
    folder = workspace.run(run)
    save(folder.hf / f"step_{D - 1}", 5, workspace.model("tiny"))  # not even finished
    (folder.hf / f".step_{D - 1}.tmp").mkdir()
    average.make(run, workspace)
    assert list(manifest.read(folder.final)["averaged"]) == [
        f"step_{A}",
        f"step_{B}",
        f"step_{C}",
        f"step_{D}",
    ]


def test_a_run_that_was_not_trained(trained):
    workspace, _ = trained
    with pytest.raises(RequestError, match="was not trained; run make train MODEL=tiny"):
        average.make(recipe.run("tiny", 2), workspace)
    code, _, err = bin_average(workspace, "--round", "2")
    assert code == 2 and "was not trained" in err


def test_other_steps_than_it_was_made_from(trained):
    workspace, run = trained
    average.make(run, workspace)
    flip(workspace.run(run))
    made = manifest.read(workspace.run(run).hf_step(B))
    made["files"]["model.safetensors"]["sha256"] = "converted anew"
    (workspace.run(run).hf_step(B) / "manifest.json").write_text(json.dumps(made))
    with pytest.raises(RequestError, match=r"was made from other inputs.*FORCE=1"):
        average.make(run, workspace)


def test_killed_after_the_weights_it_does_not_average_again(trained, monkeypatch):
    workspace, run = trained
    data = workspace.data("tiny", "round1")
    rows = data.read_text()
    data.write_text(rows.replace("system\\n<|im_end|>", "system\\nOther.<|im_end|>"))
    with pytest.raises(OmrError, match=r"chat template gives .* where input has"):
        average.make(run, workspace)
    assert not workspace.run(run).final.exists()
    data.write_text(rows)
    monkeypatch.setattr(mean, "_average_shard", None)  # it may not be called
    average.make(run, workspace)
    assert not (workspace.run(run).final / mean.PROGRESS).exists()


ROWS = [
    (
        "another system message",
        {"input": HEAD.replace("system\n", "system\nHi.") + "x" + TAIL},
        "where input has",
    ),
    ("no system message", {"input": HEAD.partition("<|im_end|>\n")[2] + "x" + TAIL}, "where input has"),
    ("no place to answer", {"input": HEAD + "x<|im_end|>\n"}, "where input has"),
    ("another end", {"output": "4<|endoftext|>"}, "where input and output has"),
    ("no newline after the end", {"output": "4<|im_end|>"}, "where input and output has"),
]


@pytest.mark.parametrize("split", recipe.SPLITS)
@pytest.mark.parametrize(("edit", "line"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_a_template_that_was_not_trained(trained_once, tmp_path, split, edit, line):
    from omr.models.final import finish

    workspace, run = trained_once
    final = tmp_path / "final"
    shutil.copytree(workspace.run(run).hf_step(D), final)
    finish.settle(final, recipe.Chat(), 1024)
    rows = [json.loads(row) for row in workspace.data("tiny", "round1").read_text().split("\n")[:-1]]
    data = tmp_path / "data.jsonl"

    def write(rows):
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))

    write(rows)
    assert finish.check_rows(final, data) == {"cot": 3, "tir": 3, "genselect": 3}
    bad = next(row for row in rows if row["inference_mode"] == split)
    bad.update(edit)
    write(rows)
    with pytest.raises(OmrError) as error:
        finish.check_rows(final, data)
    assert f"data.jsonl:{rows.index(bad) + 1} ({split})" in str(error.value) and line in str(error.value)


# --- LAUNCHER=ns: NeMo-Skills' jobs convert into the checkpoints' folder, with no manifest and no other name.


@pytest.fixture
def by_ns(trained):
    """The trained run as `ns` leaves it: its own checkpoints, its converted steps, its own average."""
    workspace, run = trained
    folder = workspace.run(run)
    shutil.rmtree(folder.checkpoints)
    for step in run.schedule.averaged:
        folder.hf_step(step).joinpath("manifest.json").unlink()
        folder.checkpoint(step).mkdir(parents=True)
        shutil.move(folder.hf_step(step), folder.checkpoints / f"hf_model_step_{step}")
    shutil.rmtree(folder.hf)
    shutil.copytree(folder.checkpoints / f"hf_model_step_{D}", folder.checkpoints / "final_hf_model")
    return workspace, run, folder


@pytest.mark.slow
def test_a_run_of_ns_is_finished(trained, by_ns, trained_once):
    workspace, run, folder = by_ns
    # Names that hold the number of an averaged step, and are none.
    for name in (f"hf_model_step_{A}0", f"hf_model_step_1{A}", f"old_hf_model_step_{A}"):
        (folder.checkpoints / name).mkdir()
    _, out, _ = bin_average(workspace, "--dry-run")
    assert out.splitlines()[0] == f"read   {folder.checkpoints}/hf_model_step_{A}" and not folder.hf.exists()
    code, out, err = bin_average(workspace)
    assert (code, err) == (0, "") and f"the mean of step_{A}, step_{B}, step_{C} and step_{D}" in out
    assert bin_average(workspace)[1].endswith("(finished already)")
    # As of our own conversion, but for the card, which names paths.
    ours = trained_once[0].run(run)
    made = {p.name: p.read_bytes() for p in folder.final.iterdir() if p.name == "model.safetensors"}
    mean.average(
        {p.name: weights.shards(p) for p in sorted(ours.hf.glob("step_*"))}, folder.root / "again", {}
    )
    assert made == {"model.safetensors": (folder.root / "again" / "model.safetensors").read_bytes()}
    settings = json.loads((folder.final / "generation_config.json").read_text())
    assert len(settings["eos_token_id"]) == 2
    for path in folder.checkpoints.glob("hf_model_step_*"):  # as prune does
        shutil.rmtree(path)
    assert average.finished(run, workspace) is not None


def ns(step):
    return lambda folder: folder.checkpoints / f"hf_model_step_{step}"


NS_FAULTS = [
    (
        "one is missing",
        lambda f: shutil.rmtree(ns(B)(f)),
        f"hf_model_step_{B} is missing (there: hf_model_step_{A}, hf_model_step_{C} and hf_model_step_{D})",
    ),
    ("half-written", lambda f: (ns(C)(f) / "config.json").unlink(), f"hf_model_step_{C} is missing"),
    ("no tokenizer yet", lambda f: (ns(C)(f) / "tokenizer.json").unlink(), "tokenizer.json"),
    (
        "a truncated shard",
        lambda f: os.truncate(ns(B)(f) / "model.safetensors", 5000),
        f"hf_model_step_{B}/model.safetensors: has",
    ),
    (
        "no weights yet",
        lambda f: (ns(D)(f) / "model.safetensors").unlink(),
        f"step_{D}: has no *.safetensors",
    ),
]


@pytest.mark.parametrize(("plant", "line"), [f[1:] for f in NS_FAULTS], ids=[f[0] for f in NS_FAULTS])
def test_all_steps_of_ns_or_none(by_ns, plant, line):
    workspace, run, folder = by_ns
    plant(folder)
    with pytest.raises(OmrError) as error:
        average.make(run, workspace)
    assert line in str(error.value) and "\n" not in str(error.value)
    assert not folder.final.exists()


def test_a_run_of_ns_whose_begin_nobody_wrote_down(by_ns):
    workspace, run, folder = by_ns
    folder.run_json.unlink()
    with pytest.raises(RequestError, match=r"run\.json: is not there, so nothing says"):
        average.make(run, workspace)


def test_a_step_that_ns_converts_anew_is_taken_anew(by_ns):
    workspace, run, folder = by_ns
    average.make(run, workspace)
    with (ns(B)(folder) / "model.safetensors").open("r+b") as handle:
        handle.seek(-5, os.SEEK_END)
        handle.write(b"\x01")
    before = manifest.read(folder.hf_step(B))["files"]
    average.make(run, workspace, force=True)
    assert manifest.read(folder.hf_step(B))["files"] != before
