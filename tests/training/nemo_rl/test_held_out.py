"""The loss on held-out rows under NeMo-RL: its file, its OVERRIDES, and what the driver makes of `validate`.

tests/training/nemo_rl/test_real_engine.py has NeMo-RL's own `validate`, and the one-box engine's loss beside.
"""

import itertools
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from omr import recipe
from omr.errors import RequestError
from omr.run.validation import ValidationFile
from omr.training.nemo_rl import config, driver, keys
from omr.training.nemo_rl.held_out import HeldOut
from omr.workspace import Workspace
from tests.training.nemo_rl import upstream
from tests.training.nemo_rl.test_config import GOLDEN, RUNS, at, here, written

SPLITS = ("cot", "tir", "genselect")
FILES = tuple(
    ValidationFile(
        split, Path(f"/workspace/data/openmathreasoning-round1-held.validation/{split}.jsonl"), "0", 1, 1
    )
    for split in SPLITS
)


@RUNS
def test_what_held_out_rows_add_to_the_file(run):
    with_rows, without = written(run, held_out=FILES), written(run)
    assert config.text(without, run) == (GOLDEN / f"{run.model.name}-{run.key}.yaml").read_text()
    assert list(dict(keys.flatten(with_rows))) == list(dict(keys.flatten(without)))
    before, after = (dict(keys.flatten(values)) for values in (without, with_rows))
    assert {key: value for key, value in after.items() if value != before[key]} == {
        "sft.val_period": run.schedule.save_period,
        "sft.val_batches": 0,
        "sft.val_global_batch_size": 1024,
        "sft.val_at_end": True,
        "data.validation": [
            {
                "dataset_name": "ResponseDataset",
                "data_path": str(file.path),
                "input_key": "input",
                "output_key": "output",
                "prompt_file": None,
                "system_prompt_file": None,
                "processor": "sft_processor",
            }
            for file in FILES
        ],
    }
    assert "&id" not in config.text(with_rows, run)  # no anchors: each set is written out


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("sft.val_period=1500", {"sft.val_period": 1500}),
        ("sft.val_batches=2 sft.val_at_start=true", {"sft.val_batches": 2, "sft.val_at_start": True}),
        ("sft.val_global_batch_size=128", {"sft.val_global_batch_size": 128}),
        # What the memory of a step is made for is made for a measurement too.
        ("policy.train_global_batch_size=2048", {"sft.val_global_batch_size": 2048}),
        ("policy.train_micro_batch_size=2", {"sft.val_micro_batch_size": 2}),
        ("checkpointing.save_period=1500", {"sft.val_period": 7500}),
    ],
)
def test_overrides_that_may_be(line, told):
    values = written(recipe.run("7b", 1), overrides=line, held_out=FILES)
    assert {key: at(values, key) for key in told} == told


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("sft.val_period=1000", "val_period=1000 never measures the averaged steps 7500.* a divisor of 7500"),
        ("sft.val_period=0", "never measures"),
        ("sft.val_period=true", "never measures"),
        ("sft.val_at_end=false", "the last step is averaged"),
        ("sft.val_at_start=1", "neither true nor false"),
        ("sft.val_batches=-1", "is not a whole number from 0 up"),
        (
            "sft.val_global_batch_size=32",
            "make 64 data-parallel ranks, which do not share .* a multiple of 64",
        ),
        ("sft.val_micro_batch_size=0", "is not a whole number from 1 up"),
        ("sft.val_micro_batch_size=32", "in micro-batches of 32.* a multiple of 2048"),
        ("data.validation=null", "make data VALIDATION=… NAME=…"),
        ("checkpointing.metric_name=val:val_loss", "no checkpoint is chosen by a metric"),
        ("checkpointing.higher_is_better=true", "no checkpoint is chosen by a metric"),
        ("logger.num_val_samples_to_print=3", "SFT prints none"),
        ("checkpointing.keep_top_k=3", "delete steps that are averaged"),
    ],
)
def test_overrides_that_cannot_be(line, says):
    with pytest.raises(RequestError, match=says):
        written(recipe.run("7b", 1), overrides=line, held_out=FILES)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["1.5b", "7b", "14b", "32b"])
def test_every_size_that_can_train_can_measure(model):
    run, worked = recipe.run(model, 1), 0
    part = run.model.tensor_parallel * run.model.context_parallel
    for nodes, gpus in itertools.product((1, 2, 3, 4, 6, 16, 64, 128), (1, 4, 6, 8)):
        try:
            values = written(run, nodes=nodes, gpus=gpus, held_out=FILES)
        except RequestError as error:
            assert "val_" not in str(error)
            continue
        ranks, worked = nodes * gpus // part, worked + 1
        shared = ranks * at(values, "sft.val_micro_batch_size")
        assert at(values, "sft.val_global_batch_size") % shared == 0
    assert worked > 5


@pytest.mark.nemo
@RUNS
def test_nemo_rl_loads_it_with_the_prepared_rows_in_place(run, tmp_path):
    values = written(run, held_out=FILES)
    path = here(run, tmp_path, config.text(values, run))
    environ = {"OMR_DATA": "/pre/pared", "OMR_VALIDATION": "/it's/here, {all} of [it]"}
    words = [*driver.prepared_words(values, environ), "++checkpointing.save_period=2"]
    done = subprocess.run(
        [upstream.python(), Path(__file__).with_name("load_config.py"), path, *words],
        cwd=upstream.checkout(),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = json.loads(done.stdout)
    assert loaded["data"]["train"]["data_path"] == "/pre/pared"
    assert loaded["data"]["validation"] == [
        {**each, "data_path": f"/it's/here, {{all}} of [it]/{split}"}
        for each, split in zip(values["data"]["validation"], SPLITS, strict=True)
    ]
    assert loaded["sft"] == values["sft"] and loaded["checkpointing"]["save_period"] == 2


def test_without_held_out_rows_nothing_is_said_of_them():
    values = written(recipe.run("7b", 1))
    assert driver.prepared_words(values, {"OMR_DATA": "/a", "OMR_VALIDATION": "/b"}) == [
        "++data.train.data_path='/a'"
    ]
    assert driver.prepared_words(values, {}) == []


# What the driver makes of `validate`: rows are (tokens with a loss, the loss of each), None where the row is
# masked.
ROWS = {
    "cot": [(3, 1.0), (1, 2.0), (2, None), (5, 0.5), (4, 3.0)],
    "tir": [(2, 4.0)],
    "genselect": [(9, None)],
}


class Rows:
    """As NeMo-RL's AllTaskProcessedDataset: `dataset` knows the name of each row's data set."""

    def __init__(self, rows=ROWS, names=lambda split: f"0123-validation-{split}"):
        self.rows = [row for some in rows.values() for row in some]
        self.dataset = {"task_name": [names(split) for split, some in rows.items() for _ in some]}

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, n):
        return self.rows[n]


def settings(val_period=4, val_at_end=True, val_batches=0, steps=10):
    sft = {"val_period": val_period, "val_at_end": val_at_end, "val_batches": val_batches}
    sft |= {"val_global_batch_size": 2, "max_num_steps": steps}
    listed = [{"data_path": f"/w/0123-validation/{split}"} for split in SPLITS]
    return {"sft": sft, "policy": {"train_global_batch_size": 4}, "data": {"validation": listed}}


class Policy:
    """Says the mean loss of a batch over its trained tokens, and remembers what it was given."""

    def __init__(self):
        self.batches = []

    def train(self, data, loss_fn, *, eval_mode, gbs, mbs):
        assert eval_mode and gbs == len(data["sample_mask"]) and mbs == 1
        self.batches.append([int(n) for n in data["token_mask"].sum(-1)])
        weights = (data["sample_mask"].unsqueeze(-1) * data["token_mask"]).sum(-1)
        total = weights.sum()
        loss = (weights * data["losses"]).sum() / total if total else total
        return {"loss": loss.reshape(1), "all_mb_metrics": {"loss": [loss.item()]} if total else {}}

    def prepare_for_training(self):
        """Nothing to do."""


def nemo_rl_validate(policy, val_dataloader, tokenizer, loss_fn, *, step, val_batches, val_mbs, **_):
    """The arithmetic of nemo_rl/algorithms/sft.py, `validate`."""
    import torch

    found, tokens = {"val_loss": 0.0}, 0
    policy.prepare_for_training()
    for number, rows in enumerate(val_dataloader):
        data = {
            "token_mask": torch.tensor([[1] * count + [0] * (9 - count) for count, _ in rows]),
            "sample_mask": torch.tensor([float(loss is not None) for _, loss in rows]),
            "losses": torch.tensor([loss or 0.0 for _, loss in rows]),
        }
        told = policy.train(data, loss_fn, eval_mode=True, gbs=len(rows), mbs=val_mbs)
        if told["all_mb_metrics"]:
            count = (data["sample_mask"].unsqueeze(-1) * data["token_mask"]).sum()
            found["val_loss"] += float(told["loss"]) * count
            tokens += count
        if val_batches > 0 and number >= val_batches - 1:
            break
    if tokens > 0:
        found["val_loss"] /= tokens
    return found, {"total_validation_time": 1.0}


def ready(rows=ROWS, config=None, **words):
    """Held-out rows as a run has them after its setup, and the loader of all of them."""
    from torch.utils.data import DataLoader

    dataset, beats = Rows(rows), []
    held_out = HeldOut(nemo_rl_validate, lambda: beats.append(1))
    held_out.begin(config or settings(**words), dataset)
    loader = DataLoader(dataset, batch_size=2, collate_fn=list, num_workers=0)
    held_out.beats = beats

    def measure():
        words = {"step": 4, "val_batches": held_out._config["sft"]["val_batches"], "val_mbs": 1}
        policy = Policy()
        return *held_out.validate(policy, loader, None, None, **words), policy.batches

    return held_out, measure


def mean(*splits):
    rows = [row for split in splits for row in ROWS[split] if row[1] is not None]
    return sum(count * loss for count, loss in rows) / sum(count for count, _ in rows)


@pytest.mark.slow
def test_the_mean_of_each_split_and_of_all_is_over_trained_tokens():
    held_out, measure = ready()
    losses, timings, batches = measure()
    # Batches never mix splits; a split of masked rows alone has no loss.
    assert batches == [[3, 1], [2, 5], [4], [2], [9]]
    assert losses == pytest.approx(
        {"val_loss": mean("cot", "tir"), "val_loss_cot": mean("cot"), "val_loss_tir": mean("tir")}
    )
    assert all(type(value) is float for value in losses.values())
    assert timings == {"total_validation_time": 3.0} and len(held_out.beats) == len(batches)
    # One mean over a loader of all of them is the same.
    alone = nemo_rl_validate(
        Policy(),
        [Rows().rows[n : n + 2] for n in range(0, 7, 2)],
        None,
        None,
        step=4,
        val_batches=0,
        val_mbs=1,
    )
    assert float(alone[0]["val_loss"]) == pytest.approx(losses["val_loss"])


@pytest.mark.slow
def test_so_many_batches_of_each_split():
    _, measure = ready(val_batches=1)
    assert measure()[2] == [[3, 1], [2], [9]]


@pytest.mark.slow
def test_rows_that_are_all_masked_have_no_loss():
    _, measure = ready({split: [(2, None)] for split in SPLITS})
    assert measure()[0] == {}


@pytest.mark.slow
def test_the_training_draws_what_it_would_have_drawn():
    import torch

    _, measure = ready()
    torch.manual_seed(7)
    wanted = torch.rand(1)
    torch.manual_seed(7)
    measure()
    assert torch.rand(1) == wanted


def test_without_held_out_rows_it_is_nemo_rl_s_own():
    asked = []
    held_out = HeldOut(lambda *given, **named: asked.append((given, named)) or ({}, {}), lambda: None)
    held_out.begin(settings(), None)
    assert held_out.validate("policy", None, "tokenizer", step=3) == ({}, {})
    assert asked == [(("policy", None, "tokenizer"), {"step": 3})]
    assert held_out.seconds_before_next_save(5.0) == 0.0


def test_splits_that_cannot_be_told_apart_are_refused_before_training():
    """As ResponseDataset names the raw files: by the folder's name up to its dot."""
    held_out = HeldOut(nemo_rl_validate, lambda: None)
    with pytest.raises(SystemExit, match=r"are 1 data sets to NeMo-RL; .* make train"):
        held_out.begin(settings(), Rows(names=lambda split: "openmathreasoning-round1"))


@pytest.mark.slow
def test_the_next_save_waits_for_a_measurement_where_one_comes(monkeypatch):
    clock = iter([100.0, 130.0, 200.0, 210.0])
    monkeypatch.setattr("omr.training.nemo_rl.held_out.time", SimpleNamespace(monotonic=lambda: next(clock)))
    held_out, measure = ready()
    # Not told yet at which step: it may be the next. 3 + 1 + 1 batches of 2 rows, of steps of 4.
    assert held_out.seconds_before_next_save(8.0) == 2.5 * 8.0
    measure()
    assert held_out.take_seconds() == 30.0 and held_out.take_seconds() == 0.0
    # Asked in step n, when n - 1 was told last: is the loss measured in step n + 1?
    due = []
    for told, step in itertools.pairwise(range(11)):
        held_out.step = told
        if wait := held_out.seconds_before_next_save(8.0):
            due.append((step + 1, wait))
    assert due == [(4, 30.0), (8, 30.0), (10, 30.0), (11, 30.0)]
    measure()
    held_out.step = 2
    assert held_out.take_seconds() == 10.0 and held_out.seconds_before_next_save(8.0) == 30.0


def test_the_deadline_counts_a_step_without_its_measurement_and_waits_for_the_next(monkeypatch):
    """The driver's own TimeoutChecker, on a module with what it replaces."""

    class Timeout:
        last_saved = False

        def __init__(self):
            self.iteration_times = []

        def mark_iteration(self):
            self.iteration_times.append(35.0)

    class Module:
        TimeoutChecker, CheckpointManager, Logger = (
            Timeout,
            object,
            type("L", (), {"log_metrics": lambda *_: None}),
        )
        setup, validate = staticmethod(lambda *given: given), staticmethod(nemo_rl_validate)

    now = 1000.0
    monkeypatch.setattr(driver.time, "time", lambda: now)
    driver.patch(Module, {"OMR_DEADLINE": "1040"})
    held_out = Module.validate.__self__
    Module.setup(settings(), None, None, Rows())
    held_out._untaken = held_out._longest = 30.0
    timeout = Module.TimeoutChecker()
    timeout.mark_iteration()
    assert timeout.iteration_times == [5.0]
    Module.Logger().log_metrics({}, 1, "train")
    assert not timeout.check_save()  # in step 2: step 3 takes 5 s
    Module.Logger().log_metrics({}, 2, "train")
    now = 1004.0
    assert not timeout.check_save()  # in step 3: step 4 takes 5 s and its measurement 30
    now = 1005.0
    assert timeout.check_save()


@pytest.mark.slow
def test_a_run_s_file_names_what_its_data_holds_out(tmp_path):
    from omr.request import TrainRequest
    from omr.training.nemo_rl import engine_file
    from tests.training import kit

    space, run = Workspace(tmp_path), recipe.run("micro", name="x")
    data = kit.write_inputs(tmp_path, list(kit.sft_rows(4))).data("tiny", "round1")
    request = TrainRequest.of(run, engine="nemo-rl", nodes=1, gpus=1)
    assert "validation: null" in engine_file.of(request, space).text
    kit.hold_out(data, cot=list(kit.sft_rows(2)))
    assert f"data_path: {data.with_suffix('.validation')}/cot.jsonl" in engine_file.of(request, space).text
