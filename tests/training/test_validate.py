"""`make validate`: which models are measured, what is kept, and what has it measure anew.

The run is one of the micro recipe that was trained with held-out rows: final/ is the mean of four steps.
"""

import json
import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from omr import files, recipe
from omr.errors import OmrError, RequestError
from omr.run import frozen, prune, validation
from omr.run.validation import ModelLosses, losses_of
from omr.training import stage, validate
from omr.training.trl.validation import models
from omr.workspace import Workspace
from tests.training import kit
from tests.training.test_stage import bin_

RUN = recipe.run("micro")
PARTS = [f"step_{step}" for step in RUN.schedule.averaged]
ALL = ["final", *PARTS]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A workspace where make train has trained, averaged and measured, and what it said."""
    pytest.importorskip("torch")
    root = tmp_path_factory.mktemp("work")
    assert bin_("data", DATASET="tiny", ROUND="1", WORKSPACE=str(root)).returncode == 0
    assert bin_("model", MODEL="micro", WORKSPACE=str(root)).returncode == 0
    found = {split: list(kit.sft_rows(15, split)) for split in ("cot", "genselect")}
    kit.hold_out(Workspace(root).data("tiny", "round1"), **found)
    done = bin_("train", MODEL="micro", WORKSPACE=str(root))
    assert done.returncode == 0, done.stderr
    return root, done.stdout


@pytest.fixture
def copy_for_gpu(whole, tmp_path):
    """The same run in a workspace of its own; it reads the data and the base of the first one."""
    root, _ = whole
    run = "runs/micro/round1"
    shutil.copytree(root / run, tmp_path / run)
    return Workspace(tmp_path)


@pytest.fixture
def copy(copy_for_gpu, monkeypatch):
    """The same, to be measured on the CPU whatever this machine has."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    return copy_for_gpu


@pytest.fixture
def measured(monkeypatch):
    """The models that are loaded, by name."""
    from omr.training.trl import engine

    names, load = [], engine.load_model

    def counted(path, *args, **words):
        names.append(path.name)
        return load(path, *args, **words)

    monkeypatch.setattr(engine, "load_model", counted)
    return names


def make(workspace, force=False, say=print):
    return validate.make(validate.wanted_of(RUN, workspace), say, force)


def same(found, other):
    assert list(found.models) == list(other.models)
    return all(found.models[name] == pytest.approx(other.models[name], rel=1e-5) for name in found.models)


@pytest.mark.slow
def test_a_training_ends_with_the_losses_of_its_final_model_and_its_parts(whole):
    root, said = whole
    folder = Workspace(root).run(RUN)
    found = losses_of(folder)
    assert list(found.models) == ALL
    assert found.precision == "float32"
    for losses in found.models.values():
        assert list(losses) == ["val_loss", "val_loss_cot", "val_loss_genselect"]
    # The step that was measured while it trained, by the same function.
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    for step in RUN.schedule.averaged:
        told = {key: value for key, value in lines[step - 1].items() if key.startswith("val_")}
        assert found.models[f"step_{step}"] == pytest.approx(told, rel=1e-5)
    assert len({losses["val_loss"] for losses in found.models.values()}) == len(ALL)
    final = found.models["final"]["val_loss"]
    assert f"micro round1: the final model's loss on held-out rows is {final:.4f}, its parts' " in said


@pytest.mark.slow
def test_what_is_finished_is_said_at_once_and_force_measures_again(copy):
    environ = {"MODEL": "micro", "WORKSPACE": str(copy.root)}
    before = losses_of(copy.run(RUN))
    began = time.monotonic()
    done = bin_("validate", **environ)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 5  # under one on an idle machine: torch is not imported
    header, *rows, last = done.stdout.splitlines()
    assert header.split() == ["model", "all", "cot", "genselect"]
    assert [row.split()[0] for row in rows] == ALL
    assert last == f"{copy.run(RUN).validation_json}: nats a trained token, in float32 (finished already)"

    dry = bin_("validate", **environ, DRY_RUN="1")
    assert dry.stdout.count("(measured already)") == 5
    anew = bin_("validate", **environ, FORCE="1", DRY_RUN="1")
    assert "(measured already)" not in anew.stdout and anew.stdout.count("measure ") == 5
    assert losses_of(copy.run(RUN)) == before

    copy.run(RUN).validation_json.unlink()
    again = bin_("validate", **environ)
    assert again.returncode == 0, again.stderr
    assert again.stdout.endswith("nats a trained token, in float32\n")
    assert same(losses_of(copy.run(RUN)), before)


@pytest.mark.slow
def test_killed_half_way_it_goes_on_with_the_models_that_are_left(copy, measured, monkeypatch):
    from omr.training.trl.validation import loss

    before, measure = losses_of(copy.run(RUN)), loss.measure

    def killed(*args, **words):
        if len(measured) == 3:
            raise KeyboardInterrupt
        return measure(*args, **words)

    monkeypatch.setattr(loss, "measure", killed)
    with pytest.raises(KeyboardInterrupt):
        make(copy, force=True)
    assert list(losses_of(copy.run(RUN)).models) == ALL[:2]
    assert validate.finished(validate.wanted_of(RUN, copy)) is None
    monkeypatch.setattr(loss, "measure", measure)
    measured.clear()
    assert same(make(copy), before)
    assert measured == ALL[2:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "again"),
    [
        (lambda found: {}, []),
        (lambda found: {"data": "0"}, ALL),
        (lambda found: {"identities": {**found.identities, "final": "0"}}, ["final"]),
        (lambda found: {"models": {k: v for k, v in found.models.items() if k != "step_16"}}, ["step_16"]),
        # Losses of another precision are not put beside each other.
        (lambda found: {"precision": "bfloat16"}, []),
        (lambda found: {"precision": "bfloat16", "identities": {**found.identities, "step_16": "0"}}, ALL),
    ],
)
def test_what_changed_since_is_measured_anew(copy, measured, change, again):
    folder = copy.run(RUN)
    before = losses_of(folder)
    replace(before, **change(before)).save(folder)
    assert same(make(copy), before)
    assert measured == again


@pytest.mark.slow
def test_a_part_that_was_pruned_keeps_its_loss_and_without_one_is_left_out(copy, measured):
    folder, said = copy.run(RUN), []
    before = losses_of(folder)
    shutil.rmtree(folder.hf_step(16))
    assert make(copy) == before
    assert same(make(copy, force=True), before)
    assert measured == [name for name in ALL if name != "step_16"]
    folder.validation_json.unlink()
    found = make(copy, say=said.append)
    assert list(found.models) == [name for name in ALL if name != "step_16"]
    assert said == ["step_16 was pruned, and cannot be measured"]
    assert make(copy) == found
    assert "step_16  (pruned: is left out)" in "\n".join(validate.plan(validate.wanted_of(RUN, copy)))


@pytest.mark.slow
def test_a_pruned_parts_loss_in_another_precision_is_not_thrown_away(copy):
    folder = copy.run(RUN)
    replace(losses_of(folder), precision="bfloat16").save(folder)
    shutil.rmtree(folder.hf / PARTS[0])
    before = folder.validation_json.read_bytes()
    for force in (False, True):
        if force or not validate.finished(validate.wanted_of(RUN, copy)):
            with pytest.raises(OmrError, match=rf"has {PARTS[0]} in another precision than float32, pruned"):
                make(copy, force)
    assert folder.validation_json.read_bytes() == before


@pytest.mark.slow
def test_make_train_of_a_finished_run_says_what_was_not_measured(copy):
    environ = {"MODEL": "micro", "WORKSPACE": str(copy.root)}
    assert "not measured" not in bin_("train", **environ).stdout
    copy.run(RUN).validation_json.unlink()
    done = bin_("train", **environ)
    assert done.returncode == 0 and "finished already" in done.stdout
    assert (
        "its loss on held-out rows is not measured; make validate MODEL=micro ROUND=1 does it" in done.stdout
    )


@pytest.mark.slow
@pytest.mark.parametrize("script", ["train", "validate"])
def test_other_held_out_problems_are_not_asked_for_in_silence(whole, script):
    root, _ = whole
    done = bin_(script, MODEL="micro", WORKSPACE=str(root), VALIDATION="0.3")
    assert (
        done.returncode == 2
        and "VALIDATION=0.3: " in done.stderr
        and "make data VALIDATION=0.3" in done.stderr
    )


@pytest.mark.slow
def test_what_stops_it_after_a_training_is_a_note(whole, monkeypatch, capsys):
    root, _ = whole

    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(validate, "make", full)
    stage._validate(RUN, Workspace(root), print)
    said = capsys.readouterr().err
    assert said.startswith("note: ") and "No space left on device; make validate MODEL=micro" in said


@pytest.mark.slow
def test_a_run_of_the_other_engine_is_measured_as_well(copy):
    folder = copy.run(RUN)
    before = losses_of(folder)
    began = files.read_json(folder.run_json)
    began["request"]["engine"] = "nemo-rl"
    files.write_json(folder.run_json, began)
    assert same(make(copy, force=True), before)


@pytest.fixture
def by_nemo_rl(copy, tmp_path, monkeypatch):
    """An environment without torch, and NeMo-RL's Python: torch, and next to nothing else that ours has."""
    absent = ("click", "dotenv", "trl", "datasets", "pyarrow", "psutil", "ml_dtypes")
    program = tmp_path / "bin" / "uv"
    program.parent.mkdir()
    program.write_text(
        f"""#!{sys.executable}
import os, runpy, sys
assert sys.argv[1:5] == ["run", "--no-sync", "python", "-m"] and os.getcwd() == {str(tmp_path)!r}
sys.modules.update(dict.fromkeys({absent!r}))
print("a library says this")
runpy.run_module(sys.argv[5], run_name="__main__", alter_sys=True)
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("NEMO_RL", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(models, "has_torch", lambda: False)
    return copy


@pytest.mark.slow
def test_an_environment_without_torch_has_nemo_rls_measure(by_nemo_rl, measured, capfd):
    folder = by_nemo_rl.run(RUN)
    before = losses_of(folder)
    assert same(make(by_nemo_rl, force=True), before)
    assert measured == []  # not in this process
    assert "a library says this" in capfd.readouterr().err
    other_rows(by_nemo_rl)
    with pytest.raises(OmrError, match=r"cot.jsonl: has .* bytes, this run was begun with"):
        make(by_nemo_rl, force=True)


@pytest.mark.slow
def test_where_neither_can_measure_that_is_a_line(by_nemo_rl, monkeypatch, tmp_path):
    (tmp_path / "bin" / "uv").write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(OmrError, match=r"micro round1: NeMo-RL's Python could not measure \(exit code 3"):
        make(by_nemo_rl, force=True)
    monkeypatch.setenv("NEMO_RL", str(tmp_path / "nowhere"))
    with pytest.raises(
        OmrError, match=r"has no torch, and there is no NeMo-RL in .*; run it with RUNNER=host"
    ):
        make(by_nemo_rl, force=True)


def other_weights(copy):
    path = copy.run(RUN).final / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\x80\x3f")


def other_rows(copy):
    (file, *_) = frozen.read(copy.run(RUN)).data.validation
    began = files.read_json(copy.run(RUN).run_json)
    shutil.copyfile(file.path, copy.root / "cot.jsonl")
    with (copy.root / "cot.jsonl").open("a") as handle:
        handle.write("{}\n")
    began["request"]["data"]["validation"][0]["path"] = str(copy.root / "cot.jsonl")
    files.write_json(copy.run(RUN).run_json, began)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (other_weights, "model.safetensors: changed since final was made; make average MODEL=micro ROUND=1"),
        (other_rows, "cot.jsonl: has .* bytes, this run was begun with"),
        (
            lambda copy: copy.run(RUN).validation_json.write_text('{"data": 3}'),
            "validation.json: is damaged .*remove it and run make validate again",
        ),
    ],
)
def test_what_is_damaged_is_a_line(copy, damage, told):
    damage(copy)
    with pytest.raises(OmrError, match=told) as refused:
        make(copy, force=True)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("losses", "told"),
    [
        ({"val_loss": float("nan"), "val_loss_cot": 1.0}, "final: val_loss is nan; look at the loss"),
        ({}, "final: no held-out row is short enough"),
    ],
)
def test_a_loss_that_is_no_number_is_not_kept(copy, monkeypatch, losses, told):
    from omr.training.trl.validation import loss

    copy.run(RUN).validation_json.unlink()
    monkeypatch.setattr(loss, "measure", lambda *_, **__: losses)
    with pytest.raises(OmrError, match=told):
        make(copy)
    assert not copy.run(RUN).validation_json.exists()


@pytest.mark.slow
def test_prune_names_the_parts_that_were_not_measured_and_a_new_training_forgets_the_losses(copy):
    folder = copy.run(RUN)

    def unmeasured():
        found = prune.surplus(RUN, copy)
        return [entry.path for entry in found if entry.why.endswith("; make validate has not measured it")]

    assert unmeasured() == []
    found = losses_of(folder)
    replace(found, models={"final": found.models["final"]}).save(folder)
    assert unmeasured() == [folder.hf_step(step) for step in RUN.schedule.averaged]
    folder.validation_json.unlink()
    assert unmeasured() == [folder.hf_step(step) for step in RUN.schedule.averaged]
    found.save(folder)
    stage.clear(folder)
    assert not folder.validation_json.exists()


@pytest.mark.gpu
def test_a_gpu_measures_in_bf16(copy_for_gpu):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    before = losses_of(copy_for_gpu.run(RUN))
    found = make(copy_for_gpu, force=True)
    assert (before.precision, found.precision) == ("float32", "bfloat16")
    assert list(found.models) == ALL
    for name, losses in found.models.items():
        assert losses == pytest.approx(before.models[name], rel=0.02)


def test_a_run_without_held_out_rows_is_told_how_to_have_some(tmp_path):
    workspace = kit.write_inputs(tmp_path, list(kit.sft_rows(3)))
    with pytest.raises(RequestError, match="was not trained; run make train MODEL=micro ROUND=1 first"):
        validate.wanted_of(RUN, workspace)
    kit.freeze(workspace)
    with pytest.raises(RequestError, match=r"no row of .* was held out") as refused:
        validate.wanted_of(RUN, workspace)
    words = "run make data DATASET=tiny ROUND=1 VALIDATION=0.002 NAME=…, then make train with that NAME"
    assert str(refused.value).endswith(words)


def test_a_run_that_is_not_finished_is_trained_first(tmp_path):
    workspace = kit.write_inputs(tmp_path, list(kit.sft_rows(3)))
    kit.hold_out(workspace.data("tiny", "round1"), cot=list(kit.sft_rows(2)))
    kit.freeze(workspace)
    with pytest.raises(RequestError, match="final: is not there; run make train MODEL=micro ROUND=1 first"):
        validate.wanted_of(RUN, workspace)


FOUND = ModelLosses(
    "0f",
    "bfloat16",
    {"final": "1f", "step_3": "2f", "step_4": "3f"},
    {
        "final": {"val_loss": 0.51239, "val_loss_cot": 0.5, "val_loss_tir": 0.53},
        "step_3": {"val_loss": 0.52, "val_loss_cot": 0.5},
        "step_4": {"val_loss": 0.515, "val_loss_cot": 0.5},
    },
)


def test_losses_are_told_in_a_line_and_in_a_table():
    line = "the final model's loss on held-out rows is 0.5124, its parts' 0.5150 to 0.5200"
    assert validate.summary(FOUND) == line
    alone = replace(FOUND, models={"final": FOUND.models["final"]})
    assert validate.summary(alone) == "the final model's loss on held-out rows is 0.5124"
    assert validate.table(FOUND) == (
        ["model", "all", "cot", "tir"],
        [
            ["final", "0.5124", "0.5000", "0.5300"],
            ["step_3", "0.5200", "0.5000", "-"],
            ["step_4", "0.5150", "0.5000", "-"],
        ],
    )


def test_losses_are_read_as_they_were_written(tmp_path):
    folder = Workspace(tmp_path).run(RUN)
    assert losses_of(folder) is None
    FOUND.save(folder)
    assert losses_of(folder) == FOUND


def test_the_digest_of_the_rows_is_of_their_splits_and_content():
    one = validation.ValidationFile("cot", Path("/a.jsonl"), "0f", 3, 1)
    two = replace(one, split="tir")
    assert validation.digest_of([one, two]) == validation.digest_of([replace(one, path=Path("/b")), two])
    others = [[one], [two, one], [one, replace(two, sha256="1f")]]
    assert len({validation.digest_of(held_out) for held_out in ([one, two], *others)}) == 4
