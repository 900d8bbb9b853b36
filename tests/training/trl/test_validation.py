"""The loss on held-out rows: of which rows, the same however they are grouped, and no change of the training.

Trainings are of the micro recipe: 24 steps, a checkpoint every 4.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from omr import files
from omr.errors import OmrError
from omr.run.validation import ValidationFile
from omr.tiny.model import write_base
from omr.tiny.tokenizer import tiny_tokenizer
from omr.training.trl.batches import packed_groups, padded_groups
from omr.training.trl.feed import NO_LOSS, encode, trained_tokens
from omr.training.trl.process_group import ProcessGroup
from omr.training.trl.validation import loss, rows
from tests.training import kit
from tests.training.trl.engine_kit import ForkServer, MicroRun

ALONE = ProcessGroup(0, 1)


def held_out_file(path, found, split="cot"):
    """A file of held-out rows, and what a run knows of it."""
    return ValidationFile(split, path, **kit.write_rows(path, found))


def read(*found, longest=10_000, processes=ALONE, group_rows=partial(padded_groups, tokens=400)):
    return rows.read(found, tiny_tokenizer(), longest, group_rows, processes)


def texts(path):
    lines = path.read_text().rstrip("\n").split("\n")  # a row may have other ends of a line
    return [(row["input"], row["output"]) for row in map(json.loads, lines)]


@pytest.fixture
def cot(tmp_path):
    return held_out_file(tmp_path / "cot.jsonl", list(kit.sft_rows(30)))


def found_rows(splits):
    """Each row's tokens, and how many of them are the prompt's."""
    found = [row for split in splits for group in split.micro_batches for row in group]
    return sorted((row.ids.tolist(), row.prompt) for row in found)


def wanted_rows(encoded):
    return sorted((row["input_ids"], row["labels"].count(NO_LOSS)) for row in encoded)


def test_rows_are_those_that_training_would_see(cot, monkeypatch):
    monkeypatch.setattr(rows, "TOKENISED_AT_ONCE", 7)
    wanted = encode(texts(cot.path), tiny_tokenizer())
    (split,) = read(cot)
    assert split.name == "cot"
    assert found_rows([split]) == wanted_rows(wanted)
    assert split.tokens == sum(len(row["input_ids"]) for row in wanted)
    short = [row for row in wanted if len(row["input_ids"]) <= 76]
    assert 0 < len(short) < 30
    assert found_rows(read(cot, longest=76)) == wanted_rows(short)


def test_processes_share_the_rows(cot):
    parts = [found_rows(read(cot, processes=ProcessGroup(rank, 4))) for rank in range(4)]
    assert [len(part) for part in parts] == [8, 8, 7, 7]
    assert sorted(row for part in parts for row in part) == found_rows(read(cot))
    assert found_rows(read(cot, processes=ProcessGroup(40, 41))) == []


def longer(path):
    path.write_text(path.read_text() + "{}\n")


def other(path):
    path.write_text(path.read_text().replace("2", "3"))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (longer, "bytes, this run was begun with"),
        (other, "has other rows than this run was begun with"),
        (Path.unlink, "the held-out rows are gone"),
    ],
)
def test_rows_that_changed_are_refused_in_a_line(cot, damage, told):
    damage(cot.path)
    with pytest.raises(OmrError, match=told) as refused:
        read(cot)
    assert str(refused.value).startswith(f"{cot.path}: ")
    assert str(refused.value).endswith("; bring the old file back, or set NAME=… for a run of its own")


@pytest.mark.parametrize("line", ['{"input": "x"}\n', '{"input": "x", "output": "7", "prob', "[]\n"])
def test_a_row_that_is_none_is_named(cot, line):
    path = cot.path
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]) + line.encode())
    with pytest.raises(OmrError, match="row 3 has no text for input and output"):
        read(replace(cot, size=path.stat().st_size, sha256=files.sha256(path)))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """micro's base, its weights made large: what a token sees then decides its loss."""
    torch = pytest.importorskip("torch")
    from omr.training.trl.engine import load_model

    base = tmp_path_factory.mktemp("base")
    write_base(base)
    model, _ = load_model(base, gpu=False)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight *= 6
    return model


def measured(model, splits, packed=False):
    import torch

    return loss.measure(model, splits, packed, torch.device("cpu"), ALONE)


def summed(model, encoded):
    """The sum of the losses of rows set end to end as if they were one, by transformers alone."""
    import torch

    ids = torch.tensor([[n for row in encoded for n in row["input_ids"]]])
    labels = torch.tensor([n for row in encoded for n in [-100, *row["labels"][1:]]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0]
    return float(torch.nn.functional.cross_entropy(logits[:-1], labels[1:], reduction="sum"))


def short_rows(count, split):
    """Rows of a split without those that are longer than a training sequence."""
    return [row for row in kit.sft_rows(count, split) if len(row["output"]) < 2000]


@pytest.mark.slow
def test_packed_padded_and_single_rows_have_the_same_loss(model, tmp_path, monkeypatch):
    monkeypatch.setattr(loss, "TOKENS_AT_ONCE", 50)
    found = [
        held_out_file(tmp_path / f"{split}.jsonl", short_rows(12, split), split)
        for split in ("cot", "tir", "genselect")
    ]
    encoded = {file.split: encode(texts(file.path), tiny_tokenizer()) for file in found}
    tokens = {split: sum(map(trained_tokens, some)) for split, some in encoded.items()}
    single = {split: sum(summed(model, [row]) for row in some) for split, some in encoded.items()}
    wanted = {f"val_loss_{split}": single[split] / tokens[split] for split in tokens}
    wanted["val_loss"] = sum(single.values()) / sum(tokens.values())
    # What it would be if a row saw those before it.
    assert summed(model, encoded["cot"]) / tokens["cot"] != pytest.approx(wanted["val_loss_cot"], rel=1e-3)

    padded = read(*found, group_rows=partial(padded_groups, tokens=2000))
    packed = read(*found, group_rows=partial(packed_groups, tokens=2000))
    assert max(len(group) for group in padded[0].micro_batches) > 1
    assert max(len(group) for group in packed[0].micro_batches) > 1
    assert measured(model, padded) == pytest.approx(wanted, rel=1e-5)
    assert measured(model, packed, packed=True) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.slow
def test_measuring_leaves_the_model_and_the_random_numbers_as_they_were(model, cot):
    import torch

    before, weights = torch.random.get_rng_state(), [w.clone() for w in model.parameters()]
    for mode in (True, False):
        model.train(mode)
        measured(model, read(cot))
        assert all(module.training is mode for module in model.modules())
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.slow
def test_a_split_without_a_row_that_fits_has_no_loss(model, cot, tmp_path):
    empty = held_out_file(tmp_path / "tir.jsonl", [], "tir")
    assert set(measured(model, read(cot, empty))) == {"val_loss", "val_loss_cot"}
    assert measured(model, read(cot, empty, longest=3)) == {}
    assert measured(model, []) == {}


# Trainings.


@pytest.fixture(scope="module")
def fork_server():
    return ForkServer()


@pytest.fixture
def fresh(fork_server, tmp_path):
    return MicroRun(tmp_path, fork_server)


@pytest.fixture(scope="module")
def plain(fork_server, tmp_path_factory):
    """A training without held-out rows."""
    run = MicroRun(tmp_path_factory.mktemp("plain"), fork_server).prepare()
    assert run.train() == 0, run.said()
    return run


@pytest.fixture(scope="module")
def measuring(fork_server, tmp_path_factory):
    """The same with held-out rows, and saves for recovery between those of the schedule."""
    run = MicroRun(tmp_path_factory.mktemp("measuring"), fork_server).prepare(held_out=20, recovery=5)
    assert run.train() == 0, run.said()
    return run


def metrics(run):
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def held_out_losses(run):
    """Step -> the losses on held-out rows in its line."""
    found = {row["step"]: {k: v for k, v in row.items() if k.startswith("val_")} for row in metrics(run)}
    return {step: losses for step, losses in found.items() if losses}


@pytest.mark.slow
def test_each_save_of_the_schedule_has_the_losses_and_the_training_is_the_same(plain, measuring):
    assert "validation" not in (plain.folder / "trl.yaml").read_text()
    assert held_out_losses(plain) == {}
    losses = held_out_losses(measuring)
    assert list(losses) == [4, 8, 12, 16, 20, 24]
    for found in losses.values():
        assert list(found) == ["val_loss", "val_loss_cot", "val_loss_tir"]
        least, most = sorted([found["val_loss_cot"], found["val_loss_tir"]])
        assert least < found["val_loss"] < most
    assert losses[24]["val_loss"] < 0.8 * losses[4]["val_loss"]

    assert measuring.weights() == plain.weights()
    for key in ("loss", "lr", "grad_norm", "tokens", "rows_over_length"):
        assert [row[key] for row in metrics(measuring)] == [row[key] for row in metrics(plain)]


@pytest.mark.slow
def test_the_losses_are_those_of_the_saved_model(measuring):
    from omr.training.trl.engine import load_model

    model, tokenizer = load_model(measuring.checkpoints / "step_24", gpu=False)
    sums, tokens = {}, {}
    for split in ("cot", "tir"):
        path = measuring.root / "data" / "tiny-round1.validation" / f"{split}.jsonl"
        encoded = encode(texts(path), tokenizer)
        sums[split] = sum(summed(model, [row]) for row in encoded)
        tokens[split] = sum(map(trained_tokens, encoded))
    wanted = {f"val_loss_{split}": sums[split] / tokens[split] for split in sums}
    wanted["val_loss"] = sum(sums.values()) / sum(tokens.values())
    assert held_out_losses(measuring)[24] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.slow
def test_tensorboard_has_them(measuring):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(measuring.folder / "logs" / "tensorboard"))
    board.Reload()
    assert [event.step for event in board.Scalars("val_loss_cot")] == [4, 8, 12, 16, 20, 24]


@pytest.mark.slow
def test_a_training_that_was_killed_measures_what_an_undisturbed_one_does(fresh, measuring):
    fresh.prepare(held_out=20)
    process = fresh.start(OMR_STEP_DELAY="0.2")
    fresh.wait_for("checkpoints/step_8")
    process.kill()
    process.join()
    assert fresh.train() == 0, fresh.said()
    assert "goes on from step" in fresh.said()
    assert held_out_losses(fresh) == held_out_losses(measuring)
    assert fresh.weights() == measuring.weights()


@pytest.mark.slow
def test_asked_to_stop_between_saves_it_measures_nothing(fresh):
    fresh.prepare(held_out=20)
    stop = fresh.root / "stop"
    stop.touch()
    assert fresh.train(OMR_STOP=str(stop)) == 0, fresh.said()
    assert fresh.steps() == [1]
    assert held_out_losses(fresh) == {}


@pytest.mark.slow
def test_measuring_counts_as_a_part_of_the_save_and_not_of_the_step(fresh):
    fresh.prepare(held_out=2, rows=8, steps=4)
    assert fresh.train(measuring=4) == 0, fresh.said()
    (found,) = re.findall(r"slowest: step (\S+), save (\S+)", fresh.said())
    step, save = map(float, found)
    assert step < 4 <= save
    (last,) = [row for row in metrics(fresh) if row["step"] == 4]
    assert last["tokens"] / last["tokens_per_second"] < 4


@pytest.mark.slow
def test_a_packed_training_measures_what_a_padded_one_does(fresh, measuring):
    fresh.prepare(held_out=20, packed=True)
    assert fresh.train() == 0, fresh.said()
    ours, theirs = held_out_losses(fresh), held_out_losses(measuring)
    assert ours[4] == pytest.approx(theirs[4], rel=2e-4)  # the weights differ in their last bits


@pytest.mark.slow
def test_two_processes_measure_as_one_does(fresh, measuring):
    fresh.prepare(held_out=20)
    module = ("-m", "omr.training.trl.engine", str(fresh.folder))
    command = [sys.executable, "-m", "omr.training.trl.torchrun", "2", *module]
    environ = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    ours, theirs = held_out_losses(fresh), held_out_losses(measuring)
    assert list(ours) == list(theirs)
    assert ours[4] == pytest.approx(theirs[4], rel=2e-4)


@pytest.mark.slow
def test_held_out_rows_that_changed_end_it_before_a_step(fresh):
    fresh.prepare(held_out=4, rows=8)
    path = fresh.root / "data" / "tiny-round1.validation" / "tir.jsonl"
    other(path)
    assert fresh.train() == 1
    assert f"error: {path}: has other rows than this run was begun with" in fresh.said()
    assert "Traceback" not in fresh.said()
    assert not (fresh.folder / "metrics.jsonl").exists()
