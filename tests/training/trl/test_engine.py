"""The one-box engine: what it trains on, and that no kill, damage or deadline changes what comes out.

Trainings are of the micro recipe: 24 steps, a checkpoint every 4.
"""

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omr.run import events
from omr.workspace import RunFolder
from tests.training.trl.engine_kit import ForkServer, MicroRun

SAVE_LIMIT = 60  # operations of a save that are killed at most; a save has fewer


@pytest.fixture(scope="module")
def fork_server():
    return ForkServer()


@pytest.fixture
def fresh(fork_server, tmp_path):
    return MicroRun(tmp_path, fork_server)


@pytest.fixture(scope="module")
def undisturbed(fork_server, tmp_path_factory):
    run = MicroRun(tmp_path_factory.mktemp("undisturbed"), fork_server).prepare()
    assert run.train() == 0, run.said()
    return run


@pytest.fixture
def at_20(undisturbed, tmp_path):
    """A run that ended after step 20."""
    run = undisturbed.copy(tmp_path)
    shutil.rmtree(run.checkpoints / "step_24")
    return run


def metrics(run):
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def finishes_the_same(run, undisturbed):
    assert run.train() == 0, run.said()
    assert run.weights() == undisturbed.weights()
    assert "Traceback" not in run.said()
    assert [row["step"] for row in metrics(run)] == list(range(1, 25))
    assert [row["loss"] for row in metrics(run)] == [row["loss"] for row in metrics(undisturbed)]
    return True


@pytest.mark.slow
def test_a_checkpoint_holds_no_pickled_arguments_and_every_schedule_step_is_saved(undisturbed):
    assert undisturbed.steps() == [4, 8, 12, 16, 20, 24]
    names = {path.name for path in (undisturbed.checkpoints / "step_24").iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "complete.json"} < names
    assert "training_args.bin" not in names
    assert not list(undisturbed.checkpoints.glob("tmp_*"))


@pytest.mark.slow
def test_the_rate_warms_up_from_0_and_falls_by_cosine_to_its_least(undisturbed):
    top, least, warmup, steps = 4e-3, 4e-6, 2, 24
    for row in metrics(undisturbed):
        done = row["step"] - 1
        share = 0.5 * (1 + math.cos(math.pi * (done - warmup) / (steps - warmup)))
        wanted = top * done / warmup if done < warmup else least + (top - least) * share
        assert row["lr"] == pytest.approx(wanted, rel=1e-6, abs=1e-12)


@pytest.mark.slow
def test_it_learns(undisturbed):
    losses = [row["loss"] for row in metrics(undisturbed)]
    assert losses[0] == pytest.approx(math.log(512), rel=0.05)  # random weights: every token as likely
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.slow
def test_a_finished_run_trains_nothing(undisturbed, tmp_path):
    run = undisturbed.copy(tmp_path)
    assert run.train() == 0
    assert run.weights() == undisturbed.weights()
    assert len(metrics(run)) == 24


@pytest.mark.slow
def test_killed_in_each_file_operation_of_a_save(fresh, undisturbed):
    fresh.prepare()
    for number in range(1, SAVE_LIMIT):
        code = fresh.train(kill=number)
        if code == 0:
            break
        assert code == -signal.SIGKILL, fresh.said()
        if 24 in fresh.steps():  # later operations are those of a save from the start again
            shutil.rmtree(fresh.checkpoints)
    assert 15 < number < SAVE_LIMIT - 1
    said = fresh.said()
    for name in ("save_file", "save_to_json", "copyfile", "write_json", "rename", "fsync", ": save"):
        assert name in said, f"no kill in {name}"
    assert finishes_the_same(fresh, undisturbed)


@pytest.mark.slow
def test_killed_at_random_moments(fresh, undisturbed):
    fresh.prepare()
    dice, kills = random.Random(5), 0
    for _ in range(6):
        process = fresh.start(OMR_STEP_DELAY="0.15")
        process.join(dice.uniform(0.5, 2.5))
        process.kill()
        process.join()
        if process.exitcode == 0:  # a fast machine was done before the kill
            break
        assert process.exitcode == -signal.SIGKILL, fresh.said()
        kills += 1
        if fresh.steps()[-1:] > [16]:
            break
    assert kills >= 2
    assert finishes_the_same(fresh, undisturbed)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


PARTS = (
    *(
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ),
    *("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "complete.json"),
)


@pytest.mark.slow
def test_the_parts_are_all_there_are(undisturbed):
    assert {path.name for path in (undisturbed.checkpoints / "step_20").iterdir()} == set(PARTS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "part"),
    [(damage, part) for damage in (Path.unlink, cut) for part in PARTS]
    + [(flip, "model.safetensors"), (flip, "complete.json")],
)
def test_a_damaged_newest_checkpoint_is_not_used(at_20, undisturbed, part, damage):
    damage(at_20.checkpoints / "step_20" / part)
    assert finishes_the_same(at_20, undisturbed)
    said = at_20.said()
    assert "step_20 is damaged (" in said
    assert ("damaged", 20) in [(event.kind, event.step) for event in events.read(RunFolder(at_20.folder))]
    assert part in said or part == "complete.json"  # whose own words may be what changed
    assert "training goes on from step 16" in said
    assert not list(at_20.checkpoints.glob("damaged_*"))  # a newer one is whole


@pytest.mark.slow
def test_a_checkpoint_of_another_run_is_not_used(at_20, undisturbed):
    foreign = at_20.checkpoints / "step_20" / "complete.json"
    foreign.write_text(foreign.read_text().replace('"run": "', '"run": "0'))
    assert finishes_the_same(at_20, undisturbed)
    assert "step_20 is damaged (it belongs to another run)" in at_20.said()


@pytest.mark.slow
def test_an_averaged_step_that_is_lost_is_trained_again(undisturbed, tmp_path):
    run = undisturbed.copy(tmp_path)
    cut(run.checkpoints / "step_16" / "optimizer.pt")
    assert finishes_the_same(run, undisturbed)
    assert "training goes on from step 12" in run.said()
    assert run.weights(16) == undisturbed.weights(16)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGTERM", "SIGUSR2", "file", "deadline"])
def test_asked_to_stop_it_saves_and_ends_well_in_time(fresh, undisturbed, how):
    fresh.prepare()
    stop = fresh.root / "stop"
    deadline = time.time() + 8  # of 24 steps that take more than 14
    environ = {"OMR_DEADLINE": str(deadline)} if how == "deadline" else {}
    process = fresh.start(OMR_STEP_DELAY="0.6", OMR_STOP=str(stop), **environ)
    if how != "deadline":
        fresh.wait_for("checkpoints/step_4")
    if how == "file":
        stop.touch()
    elif how != "deadline":
        os.kill(process.pid, getattr(signal, how))
    process.join(60)
    assert process.exitcode == 0, fresh.said()
    if how == "deadline":
        assert time.time() < deadline
    reached = fresh.steps()[-1]
    assert 1 <= reached < 24
    stop.unlink(missing_ok=True)
    assert finishes_the_same(fresh, undisturbed)
    assert f"training goes on from step {reached}" in fresh.said()
    told = [(event.kind, event.step) for event in events.read(RunFolder(fresh.folder))]
    assert told == [("started", None), ("saved", reached), ("started", reached), ("complete", 24)]


@pytest.mark.slow
def test_tensorboard_has_each_step_once_after_a_kill(at_20, undisturbed):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert finishes_the_same(at_20, undisturbed)
    board = EventAccumulator(str(at_20.folder / "logs" / "tensorboard"))
    board.Reload()
    assert [event.step for event in board.Scalars("loss")] == list(range(1, 25))


@pytest.mark.slow
def test_two_trainings_of_one_run_do_not_meet(fresh):
    fresh.prepare()
    first = fresh.start(OMR_STEP_DELAY="0.3")
    fresh.wait_for("checkpoints/step_4")
    assert fresh.train() == 1
    assert "is being made by process" in fresh.said()
    first.terminate()
    first.join(60)
    assert first.exitcode == 0


@pytest.mark.slow
def test_a_lost_lease_ends_it_without_another_save(fresh):
    fresh.prepare()
    lease = fresh.folder / "lease"
    lease.mkdir()
    (lease / "1").write_text("{}")
    process = fresh.start(OMR_STEP_DELAY="0.2", OMR_LEASE=str(lease / "1"))
    fresh.wait_for("checkpoints/step_4")
    (lease / "2").write_text("{}")
    process.join(60)
    assert process.exitcode == 1
    assert "has taken over this run" in fresh.said()
    assert fresh.steps()[-1] <= 8


@pytest.mark.slow
def test_a_disk_that_fills_up_is_one_line_and_loses_nothing(fresh, undisturbed):
    fresh.prepare()
    assert fresh.train(largest_file=500_000) == 1
    said = fresh.said()
    assert "step_4: could not be saved" in said
    assert "Traceback" not in said
    assert fresh.steps() == []
    assert finishes_the_same(fresh, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("line", ['{"input": "x"}', '{"input": "x", "output": null}', '{"input": "x", "out'])
def test_a_row_that_is_none_is_named(fresh, line):
    fresh.prepare(rows=8)
    data = fresh.root / "data" / "tiny-round1.jsonl"
    lines = data.read_bytes().splitlines(keepends=True)
    lines[2] = line.encode().ljust(len(lines[2]) - 1) + b"\n"
    data.write_bytes(b"".join(lines))
    assert fresh.train() == 1
    assert f"{data}: row 3 has no text for input and output" in fresh.said()
    assert "Traceback" not in fresh.said()


@pytest.mark.slow
def test_data_of_another_size_is_refused(fresh):
    fresh.prepare(rows=8)
    with open(fresh.root / "data" / "tiny-round1.jsonl", "a") as data:
        data.write("{}\n")
    assert fresh.train() == 1
    assert "this run was begun with" in fresh.said()


@pytest.mark.slow
def test_rows_over_the_length_count_in_the_batch_and_are_not_trained(fresh, undisturbed):
    fresh.prepare(longest=76)
    assert fresh.train() == 0, fresh.said()
    over = sum(row["rows_over_length"] for row in metrics(fresh))
    assert 0 < over < 24 * 8
    fewer = sum(row["tokens"] for row in metrics(fresh))
    assert 0 < fewer < sum(row["tokens"] for row in metrics(undisturbed))


@pytest.mark.slow
def test_packed_rows_train_as_padded_ones_do(fresh, undisturbed):
    fresh.prepare(packed=True)
    assert fresh.train() == 0, fresh.said()
    ours, theirs = metrics(fresh), metrics(undisturbed)
    for key in ("loss", "grad_norm"):
        wanted = [row[key] for row in theirs]
        # The first steps are the same numbers in another order of addition; then the differences grow.
        assert [row[key] for row in ours][:6] == pytest.approx(wanted[:6], rel=2e-4)
    assert [row["loss"] for row in ours] == pytest.approx([row["loss"] for row in theirs], rel=0.02)
    assert [row["tokens"] for row in ours] == [row["tokens"] for row in theirs]


@pytest.mark.slow
def test_two_processes_train_as_one_and_resume(fresh, undisturbed):
    fresh.prepare()

    def together(**environ):
        command = [
            sys.executable,
            "-m",
            "omr.training.trl.torchrun",
            "2",
            "-m",
            "omr.training.trl.engine",
            str(fresh.folder),
        ]
        named = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **environ}
        return subprocess.run(command, env=named, capture_output=True, text=True, timeout=300)

    stop = fresh.root / "stop"
    stop.touch()
    first = together(OMR_STOP=str(stop))
    assert first.returncode == 0, first.stderr
    assert fresh.steps() == [1]
    second = together()
    assert second.returncode == 0, second.stderr
    assert "training goes on from step 1" in second.stdout
    ours, theirs = metrics(fresh), metrics(undisturbed)
    assert [row["step"] for row in ours] == list(range(1, 25))
    assert [row["loss"] for row in ours] == pytest.approx([row["loss"] for row in theirs], rel=0.02)
    assert [row["tokens"] for row in ours] == [row["tokens"] for row in theirs]
    # A worker's failure is its own line and its exit code.
    (fresh.folder / "trl.yaml").write_text("nonsense")
    shutil.rmtree(fresh.checkpoints)
    third = together()
    assert third.returncode == 1
    assert "trl.yaml: is damaged" in third.stderr
    assert "Traceback" not in third.stderr


@pytest.mark.gpu
def test_a_gpu_trains_packed_in_bf16(fresh, undisturbed):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    fresh.prepare(gpu=True, packed=True)
    assert fresh.train(CUDA_VISIBLE_DEVICES="0") == 0, fresh.said()
    ours, theirs = metrics(fresh), metrics(undisturbed)
    assert [row["loss"] for row in ours] == pytest.approx([row["loss"] for row in theirs], rel=0.05)


@pytest.mark.slow
def test_without_a_clip_the_gradient_is_taken_as_it_is_and_its_norm_told(fresh, undisturbed, tmp_path):
    fresh.prepare(clip=0.0)
    assert fresh.train() == 0, fresh.said()
    norms = [row["grad_norm"] for row in metrics(fresh)]
    assert max(norms) > 1.0  # so the recipe's clip would have made some of them smaller
    assert fresh.weights() != undisturbed.weights()
    never_reached = MicroRun(tmp_path / "never_reached", fresh.fork_server).prepare(clip=1e9)
    assert never_reached.train() == 0, never_reached.said()
    assert fresh.weights() == never_reached.weights()
    assert norms == [row["grad_norm"] for row in metrics(never_reached)]


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_newest_save_for_recovery(fresh, undisturbed):
    """Of 24 steps, saved every 4: a save every 5 steps goes when two newer ones are there."""
    fresh.prepare(recovery=5)
    process = fresh.start(OMR_STEP_DELAY="0.3")
    fresh.wait_for("checkpoints/step_10")
    process.kill()
    process.join()
    assert max(fresh.steps()) == 10
    assert finishes_the_same(fresh, undisturbed)
    assert "goes on from step 10" in fresh.said()
    assert fresh.steps() == [4, 8, 12, 16, 20, 24]
