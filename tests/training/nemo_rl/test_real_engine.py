"""NeMo-RL's own run_sft.py under our driver: what reaches the policy, what a deadline, a stop, a resume do.

Trainings are of the micro recipe, 24 steps of 8 rows, on a CPU; tests/training/nemo_rl/stand_in.py says what
of NeMo-RL is replaced. The one-box engine trains the same rows in the same order beside it.
"""

import json
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from omr import recipe
from omr.run import frozen, metrics
from omr.run.checkpoints import FORMATS, Checkpoints
from omr.tiny.tokenizer import tiny_tokenizer
from omr.training.nemo_rl import config, prepared_data
from omr.training.trl import config as trl
from omr.training.trl.batches import EpochOrder
from omr.training.trl.feed import NO_LOSS, BatchFeed
from omr.training.trl.process_group import ProcessGroup
from omr.training.trl.validation import rows as held_out
from omr.training.trl.validation.loss import measure
from tests.training import kit
from tests.training.nemo_rl import upstream

pytestmark = [pytest.mark.nemo, pytest.mark.slow]

STAND_IN = Path(__file__).with_name("stand_in.py")
RUN = recipe.run("micro", name="real")
STEPS, BATCH = RUN.schedule.steps, RUN.model.batch
LENGTH = RUN.model.sequence_length
# A CPU trains in fp32, as the one-box engine does; its ten loader processes are for nodes.
OVERRIDES = "policy.precision=float32 data.num_workers=2"
START = 300  # seconds that imports and Ray may take on a slow machine


def rows():
    """100 rows, so that 24 steps reach into a second epoch; one of LENGTH tokens, two longer."""
    found, encode = list(kit.sft_rows(100)), tiny_tokenizer().encode
    for n, wanted in ((5, LENGTH), (50, LENGTH + 1), (95, 2 * LENGTH)):
        row = found[n]
        missing = wanted - len(encode(row["input"])) - len(encode(row["output"]))
        end = row["output"].rindex("<|im_end|>")
        row["output"] = row["output"][:end] + "~" * missing + row["output"][end:]  # a token each
    return found


@dataclass
class Training:
    """A run folder that NeMo-RL trains, session by session."""

    folder: object
    prepared: dict[str, str]

    @property
    def seen(self):
        """The rows of each step that reached the policy."""
        return [json.loads(line) for line in (self.folder.root / "rows.jsonl").read_text().splitlines()]

    @property
    def metrics(self):
        """By step, of the last session that trained it."""
        told = [json.loads(line) for line in self.folder.metrics.read_text().splitlines()]
        return {row["step"]: row for row in told if "loss" in row}

    @property
    def whole(self):
        return Checkpoints(self.folder, "nemo-rl").whole()

    @property
    def log(self):
        return self.folder.root / "log.txt"

    def start(self, **environ):
        """One session; `end` waits for it."""
        # Ray's sockets need a short path, and a Ray that runs on this machine is none of ours.
        self.ray = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
        token = Path(self.ray, "token")
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        words = {
            "OMR_METRICS": str(self.folder.metrics),
            **self.prepared,
            "OMR_STAND_IN_ROWS": str(self.folder.root / "rows.jsonl"),
            "RAY_TMPDIR": self.ray,
            "RAY_AUTH_MODE": "token",
            # Its 30 seconds are too few on a machine that does more than this.
            "RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT": "300",
            "RAY_AUTH_TOKEN_PATH": str(token),
            **environ,
        }
        file = self.folder.engine_yaml("nemo-rl")
        return upstream.start(STAND_IN, "--config", file, log=self.log, **words)

    def end(self, process):
        """What a session printed; it must end well."""
        code = process.wait(timeout=START)
        shutil.rmtree(self.ray, ignore_errors=True)
        assert code == 0, self.log.read_text()[-4000:]
        return self.log.read_text()


def training(root, given=None, overrides=OVERRIDES, **held_out):
    """A run ready to be trained by NeMo-RL: base, data, the prepared form, nemo_rl.yaml.

    `held_out` are rows by split.
    """
    source = upstream.checkout()
    space = kit.write_inputs(root, given or rows())
    if held_out:
        kit.hold_out(space.data("tiny", "round1"), **held_out)
    folder, began = kit.freeze(space, RUN, engine="nemo-rl", overrides=overrides)
    inputs = config.Inputs(
        *(RUN, folder, began.base.path, began.data.path, 1, 1, overrides),
        engine_root=str(source),
        held_out=began.data.validation,
    )
    folder.engine_yaml("nemo-rl").write_text(config.text(config.values(inputs), RUN, overrides))
    prepared_data.make(space, began.data.path)
    return Training(folder, prepared_data.environment(space, began.data, None))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    upstream.python()
    run = training(tmp_path_factory.mktemp("undisturbed"))
    began = time.time()
    run.said = run.end(run.start())
    run.start_took = run.metrics[1]["time"] - began
    return run


@pytest.fixture(scope="module")
def one_box(undisturbed, tmp_path_factory):
    """The one-box engine on the rows that NeMo-RL drew, in that order: its metrics, a row a step."""
    texts = rows()
    by_tokens = {tuple(row["input_ids"]): n for n, row in enumerate(one_box_rows())}
    longer = next(n for tokens, n in by_tokens.items() if len(tokens) > LENGTH)
    order = EpochOrder(STEPS * BATCH, BATCH)
    placed = [None] * (STEPS * BATCH)
    for step in range(STEPS):
        for at, row in zip(order.rows_of(step), undisturbed.seen[step], strict=True):
            # One that is too long arrives cut; which of them it was, the one-box engine never sees.
            placed[at] = texts[by_tokens[tuple(row["ids"])] if row["counts"] else longer]
    folder, began = kit.freeze(kit.write_inputs(tmp_path_factory.mktemp("one-box"), placed))
    trl.write_config(folder, trl.engine_config(began))
    command = [sys.executable, "-m", "omr.training.trl.engine", str(folder.root)]
    subprocess.run(command, check=True, timeout=START, capture_output=True)
    return [json.loads(line) for line in folder.metrics.read_text().splitlines()]


def one_box_rows():
    """Each of `rows` as the one-box engine tokenises and labels it."""
    texts = [(row["input"], row["output"]) for row in rows()]
    feed = BatchFeed(texts, None, tiny_tokenizer(), LENGTH, None, range(0), None)
    return feed.encode(range(len(texts)))


def test_it_trains_and_saves_every_step_of_the_schedule(undisturbed):
    assert undisturbed.whole == [4, 8, 12, 16, 20, 24]
    assert all((undisturbed.folder.checkpoint(n) / FORMATS["nemo-rl"].listing).exists() for n in (4, 24))
    assert list(undisturbed.metrics) == list(range(1, STEPS + 1))
    losses = [row["loss"] for row in undisturbed.metrics.values()]
    assert losses[-1] < 0.7 * losses[0]


def test_the_rows_and_their_loss_masks_are_those_of_the_one_box_engine(undisturbed):
    wanted = {}
    for row in one_box_rows():
        wanted[tuple(row["input_ids"])] = [int(label != NO_LOSS) for label in row["labels"]]
    drawn = [row for step in undisturbed.seen for row in step]
    assert [len(step) for step in undisturbed.seen] == [BATCH] * STEPS
    counted = [row for row in drawn if row["counts"]]
    assert all(row["mask"] == wanted[tuple(row["ids"])] for row in counted)
    # One row of exactly the sequence length is trained; longer ones count in a batch and are not.
    assert max(len(row["ids"]) for row in counted) == LENGTH
    assert {len(row["ids"]) for row in drawn if not row["counts"]} == {8}
    # No row twice in an epoch, and the second epoch is in another order.
    first, second = (drawn[: 12 * BATCH], drawn[12 * BATCH :])
    assert len({tuple(row["ids"]) for row in first if row["counts"]}) == sum(row["counts"] for row in first)
    assert [row["ids"] for row in first] != [row["ids"] for row in second]


def test_both_engines_have_the_same_loss_and_rate_at_every_step(undisturbed, one_box):
    theirs = list(undisturbed.metrics.values())
    assert len(one_box) == len(theirs) == STEPS
    for ours, other in zip(one_box, theirs, strict=True):
        assert other["loss"] == pytest.approx(ours["loss"], rel=1e-4), ours["step"]
        assert other["lr"] == pytest.approx(ours["lr"], rel=1e-6, abs=1e-12)
        assert other["grad_norm"] == pytest.approx(ours["grad_norm"], rel=1e-3)
        arrived = undisturbed.seen[ours["step"] - 1]
        assert ours["rows_over_length"] == sum(not row["counts"] for row in arrived)


def test_a_deadline_and_a_stop_request_save_and_the_run_ends_the_same(undisturbed, tmp_path):
    run = training(tmp_path)
    # The deadline comes some steps after the start, however long that takes here.
    end = time.time() + undisturbed.start_took + 4
    said = run.end(run.start(OMR_DEADLINE=str(end), OMR_STEP_DELAY="1"))
    assert "stopping training early" in said
    first = run.whole[-1]
    assert 1 <= first < STEPS - 4
    stop = tmp_path / "stop"
    session = run.start(OMR_STOP=str(stop), OMR_STEP_DELAY="1")
    until = time.time() + START
    while max(run.metrics) <= first + 1:
        assert time.time() < until and session.poll() is None
        time.sleep(0.1)
    stop.touch()
    run.end(session)
    second = run.whole[-1]
    assert first < second < STEPS
    run.end(run.start())
    assert run.whole[-1] == STEPS and {12, 16, 20, 24} <= set(run.whole)
    assert len(run.seen) == STEPS  # no step was trained twice
    losses = {step: row["loss"] for step, row in undisturbed.metrics.items()}
    assert {step: row["loss"] for step, row in run.metrics.items()} == pytest.approx(losses, rel=1e-6)
    assert run.seen == undisturbed.seen


def test_a_run_that_ended_with_an_epoch_goes_on_with_the_next(undisturbed, tmp_path):
    run = training(tmp_path)
    shutil.copytree(undisturbed.folder.checkpoint(12), run.folder.checkpoint(12))
    run.end(run.start())
    assert run.seen == undisturbed.seen[12:]
    losses = {step: row["loss"] for step, row in undisturbed.metrics.items() if step > 12}
    assert {step: row["loss"] for step, row in run.metrics.items()} == pytest.approx(losses, rel=1e-6)


def test_saves_for_recovery_come_between_the_others_and_go_again(undisturbed, tmp_path):
    run = training(tmp_path)
    period = RUN.schedule.save_period
    run.end(run.start(RECOVERY=str(period // 2)))
    assert run.whole == [*range(period, STEPS, period), STEPS - period // 2, STEPS]
    losses = {step: row["loss"] for step, row in undisturbed.metrics.items()}
    assert {step: row["loss"] for step, row in run.metrics.items()} == pytest.approx(losses, rel=1e-6)
    # A node is lost with its newest checkpoint: the one for recovery is gone on from.
    shutil.rmtree(run.folder.checkpoint(STEPS))
    trained = len(run.seen)
    run.end(run.start())
    assert run.whole[-1] == STEPS and run.seen[trained:] == undisturbed.seen[-(period // 2) :]


def held_out_rows():
    """By split: 19 rows in batches of 8, one of them too long, and a split of which every row is too long."""
    found = rows()
    longer = next(row for row in found if len(tiny_tokenizer().encode(row["input"] + row["output"])) > LENGTH)
    others = list(kit.sft_rows(160))[120:]
    return {"cot": [*others[:12], longer, *others[12:18]], "tir": others[18:25], "genselect": [longer]}


def test_the_loss_on_held_out_rows_is_told_by_split_and_changes_nothing(undisturbed, tmp_path):
    given = held_out_rows()
    run = training(tmp_path, **given)
    said = run.end(run.start(RECOVERY="2"))
    period = RUN.schedule.save_period
    due = [*range(period, STEPS + 1, period)]
    assert said.count("Starting validation at step") == len(due) * len(given)
    told = {row["step"]: row for row in metrics.read(run.folder.metrics)}
    assert [step for step, row in told.items() if "val_loss" in row] == due
    assert list(told) == list(range(1, STEPS + 1)) and all("loss" in row for row in told.values())
    # The same rows in the same order, and the same weights to the last bit.
    assert run.seen == undisturbed.seen
    assert weights(run, STEPS).keys() == weights(undisturbed, STEPS).keys()
    for name, ours in weights(run, STEPS).items():
        assert (ours == weights(undisturbed, STEPS)[name]).all(), name
    # The one-box engine measures the same of those weights; rows that are too long count in neither.
    for step in (due[0], STEPS):
        wanted = one_box_losses(run, step)
        assert set(wanted) == {"val_loss", "val_loss_cot", "val_loss_tir"}
        found = {name: value for name, value in told[step].items() if name.startswith("val_loss")}
        assert found == pytest.approx(wanted, rel=1e-5)


def weights(run, step):
    import torch

    saved = run.folder.checkpoint(step) / "policy/weights/iter_0000000/__0_0.distcp"
    return torch.load(saved, weights_only=True)["model"]


def one_box_losses(run, step):
    """What omr.training.trl measures of a checkpoint's weights on the run's held-out rows."""
    import torch
    from transformers import AutoModelForCausalLM

    began = frozen.read(run.folder)
    model = AutoModelForCausalLM.from_pretrained(began.base.path, dtype=torch.float32)
    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            module.variance_epsilon = 1e-6  # Megatron's, which the pinned edition trains with
    model.load_state_dict(weights(run, step))
    alone = ProcessGroup(0, 1)
    read = held_out.read(
        began.data.validation,
        tiny_tokenizer(),
        LENGTH,
        lambda lengths: [[n] for n in range(len(lengths))],
        alone,
    )
    return measure(model, read, False, torch.device("cpu"), alone)
