"""The engine's file: golden for all ten runs, equal in effect to NeMo-Skills plus the recipe's arguments."""

import json
import re
import subprocess
from dataclasses import replace
from math import lcm
from pathlib import Path

import pytest
import yaml

from omr import recipe
from omr.errors import RequestError
from omr.recipe import reader
from omr.run import frozen
from omr.run.nemo_rl_version import PINNED_VERSION
from omr.training import editions
from omr.training.nemo_rl import checks, config, keys, ties
from omr.workspace import Workspace
from tests.training.nemo_rl import upstream
from tests.training.nemo_rl.upstream import checkout

GOLDEN = Path(__file__).with_name("golden")
LOADER = Path(__file__).with_name("load_config.py")
WORKSPACE = Workspace(Path("/workspace"))
TEN = [
    recipe.run(model, row.number, row.variant)
    for model in ("1.5b", "7b", "14b", "32b")
    for row in recipe.ROUNDS.values()
    if row.number in recipe.MODELS[model].rounds
]
RUNS = pytest.mark.parametrize("run", TEN, ids=lambda run: f"{run.model.name}-{run.key}")


def written(run, **more):
    base, data = frozen.base_of(run, WORKSPACE), frozen.data_of(run, WORKSPACE)
    return config.values(config.Inputs(run, WORKSPACE.run(run), base, data, **more))


def at(values, path):
    for key in path.split("."):
        values = values[key]
    return values


def test_there_are_ten():
    assert len(TEN) == 10
    assert {p.stem for p in GOLDEN.glob("*.yaml")} == {f"{r.model.name}-{r.key}" for r in TEN}


@RUNS
def test_golden(run):
    assert config.text(written(run), run) == (GOLDEN / f"{run.model.name}-{run.key}.yaml").read_text()


def test_nothing_is_left_to_be_set_and_every_key_is_in_its_place():
    constant = yaml.safe_load(config.CONSTANT.read_text())
    values = written(TEN[0])
    assert [key for key, _ in keys.flatten(values)] == [key for key, _ in keys.flatten(constant)]
    assert "???" not in config.text(values, TEN[0])


# The recipe's table and arguments, typed out once more: model -> lr, min_lr, TP, CP, divisor.
TABLE = {
    "1.5b": (3e-4, 3e-7, 1, 2, 4),
    "7b": (2e-4, 2e-7, 4, 2, 4),
    "14b": (1e-4, 1e-7, 8, 2, 8),
    "32b": (1e-4, 1e-7, 8, 4, 8),
}
ROUNDS = {
    "round1": (30_000, 3_000, 7_500, (7_500, 15_000, 22_500, 30_000)),
    "round2": (3_000, 300, 750, (750, 1_500, 2_250, 3_000)),
    "round2-paper": (10_000, 1_000, 2_500, (2_500, 5_000, 7_500, 10_000)),
}


def expected(run):
    """Effective values that the recipe asks for, by NeMo-RL's key."""
    lr, min_lr, tp, cp, divisor = TABLE[run.model.name]
    steps, warmup, period, averaged = ROUNDS[run.key]
    assert run.schedule.averaged == averaged
    megatron = "policy.megatron_cfg."
    return {
        "sft.max_num_steps": steps,
        "sft.max_num_epochs": 100,
        "sft.val_period": 0,
        "checkpointing.save_period": period,
        "checkpointing.metric_name": None,
        "checkpointing.keep_top_k": None,
        "policy.train_global_batch_size": 1024,
        "policy.train_micro_batch_size": 1,
        "policy.max_total_sequence_length": 32_768,
        "policy.make_sequence_length_divisible_by": divisor,
        "policy.tokenizer.chat_template": None,
        "policy.dtensor_cfg.enabled": False,
        "policy.optimizer": None,
        "policy.sequence_packing.enabled": True,
        "policy.sequence_packing.algorithm": "modified_first_fit_decreasing",
        megatron + "enabled": True,
        megatron + "tensor_model_parallel_size": tp,
        megatron + "context_parallel_size": cp,
        megatron + "layernorm_epsilon": 1e-6,
        megatron + "optimizer.lr": lr,
        megatron + "optimizer.min_lr": min_lr,
        megatron + "optimizer.weight_decay": 0.01,
        megatron + "optimizer.adam_beta1": 0.9,
        megatron + "optimizer.adam_beta2": 0.98,
        megatron + "optimizer.adam_eps": 1e-8,
        megatron + "optimizer.clip_grad": 1.0,
        megatron + "scheduler.lr_decay_style": "cosine",
        megatron + "scheduler.lr_decay_iters": steps,
        megatron + "scheduler.lr_warmup_iters": warmup,
        megatron + "scheduler.lr_warmup_init": 0,
        megatron + "scheduler.start_weight_decay": 0.01,
        megatron + "scheduler.end_weight_decay": 0.01,
        "data.add_bos": False,
        "data.add_eos": False,
        "data.add_generation_prompt": False,
        "data.shuffle": True,
        "data.validation": None,
        "logger.wandb_enabled": False,
        "cluster.num_nodes": 64,
        "cluster.gpus_per_node": 8,
    }


@RUNS
def test_values_of_the_recipe(run):
    values = yaml.safe_load((GOLDEN / f"{run.model.name}-{run.key}.yaml").read_text())
    assert {key: at(values, key) for key in expected(run)} == expected(run)
    # Every averaged step is saved: a multiple of the period, or the last.
    period, steps = values["checkpointing"]["save_period"], values["sft"]["max_num_steps"]
    assert all(step % period == 0 or step == steps for step in run.schedule.averaged)


@RUNS
def test_every_float_is_one_to_yaml(run):
    """PyYAML reads `1e-8` as text; what it writes is read back as it was."""
    values = written(run)
    assert yaml.safe_load(config.text(values, run)) == values


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("sft.max_steps", "sft.max_num_steps"),
        ("checkpointing.save_perod", "checkpointing.save_period"),
        ("policy.lr", "policy.megatron_cfg.optimizer.lr"),
        ("policy.min_lr", "policy.megatron_cfg.optimizer.min_lr"),
        ("policy.tensor_model_parallel_size", "policy.megatron_cfg.tensor_model_parallel_size"),
        ("policy.context_parallel_size", "policy.megatron_cfg.context_parallel_size"),
        ("policy.tokenizer.chat_templat", "policy.tokenizer.chat_template"),
        ("policy.sequence_packing.enable", "policy.sequence_packing.enabled"),
        ("policy.dynamic_batching.enabledd", "policy.dynamic_batching.enabled"),
        ("policy.dtensor_cfg.tensor_parallel", "policy.dtensor_cfg.tensor_parallel_size"),
        ("policy.megatron_cfg.sequence_paralel", "policy.megatron_cfg.sequence_parallel"),
        ("policy.megatron_cfg.optimizer.beta1", "policy.megatron_cfg.optimizer.adam_beta1"),
        ("policy.megatron_cfg.scheduler.lr_warmup_iter", "policy.megatron_cfg.scheduler.lr_warmup_iters"),
        (
            "policy.megatron_cfg.distributed_data_parallel_config.average_in_collective",
            "policy.megatron_cfg.distributed_data_parallel_config.",
        ),
        ("data.train_data_path", "data.train.data_path"),
        ("data.train.input", "data.train.input_key"),
        ("logger.wandb_enable", "logger.wandb_enabled"),
        ("cluster.nodes", "cluster.num_nodes"),
    ],
)
def test_a_wrong_key_is_refused_with_the_nearest(wrong, near):
    run = TEN[3]
    with pytest.raises(RequestError, match="is no key of NeMo-RL") as refusal:
        written(run, overrides=f"{wrong}=1")
    assert f"did you mean {near}" in str(refusal.value)
    values = written(run)
    keys.put(values, wrong, 1)
    with pytest.raises(RequestError, match=f"^{wrong} is no key"):
        keys.check(values)


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("policy.train_micro_batch_size=2", "policy.train_micro_batch_size", 2),
        ("++policy.megatron_cfg.optimizer.lr=1e-4", "policy.megatron_cfg.optimizer.lr", 1e-4),
        ("sft.seed=7 data.num_workers=4", "data.num_workers", 4),
        ("logger.wandb.tags=[a,b]", "logger.wandb.tags", ["a", "b"]),
        ("'logger.wandb.notes=two words'", "logger.wandb.notes", "two words"),
        ("checkpointing.keep_top_k=null", "checkpointing.keep_top_k", None),
        (
            "policy.hf_config_overrides.rope_scaling.factor=4.0",
            "policy.hf_config_overrides.rope_scaling.factor",
            4.0,
        ),
        (
            "policy.megatron_cfg.activation_checkpointing=true",
            "policy.megatron_cfg.activation_checkpointing",
            True,
        ),
    ],
)
def test_overrides_are_worked_in(line, key, value):
    values = written(TEN[0], overrides=line)
    assert at(values, key) == value
    assert yaml.safe_load(config.text(values, TEN[0], line)) == values


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("policy.train_micro_batch_size", "is not key=value"),
        ("~policy.optimizer=1", "is not key=value"),
        ("=3", "is not key=value"),
        ("policy=3", "is a section"),
        ("policy.megatron_cfg.optimizer=adam", "is a section"),
        ("sft.seed='3", "quote values"),
        ("sft.seed={", "is not YAML"),
        ("policy.optimizer.name=x", "has a plain value"),
    ],
)
def test_overrides_that_cannot_be_read(line, says):
    with pytest.raises(RequestError, match=says):
        written(TEN[0], overrides=line)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        # Steps that are averaged would never be saved, or the last never be reached.
        ("checkpointing.save_period=1000", "save_period=1000 never saves the averaged steps 7500"),
        ("checkpointing.save_period=0", "choose a divisor of 7500"),
        ("checkpointing.save_period=x", "choose a divisor of 7500"),
        ("sft.max_num_steps=100", "set STEPS=… NAME=…"),
        ("checkpointing.enabled=false", "go on from checkpoints"),
        ("checkpointing.save_optimizer=false", "go on from checkpoints"),
        ("checkpointing.checkpoint_dir=/x", "set NAME=…"),
        ("checkpointing.keep_top_k=3", "delete steps that are averaged"),
        ("policy.model_name=/x", "BASE=…"),
        ("data.train.data_path=/x", "make data with a NAME"),
        ("cluster.num_nodes=2", "set NODES=…"),
        ("cluster.gpus_per_node=4", "set GPUS=…"),
        # What would do nothing, or end the run at its first save or its first validation.
        ("checkpointing.metric_name=val_loss", "no validation set"),
        ("sft.val_period=3", "no validation set"),
        ("sft.val_at_end=true", "no validation set"),
        ("data.validation=/x", "no validation set"),
        ("checkpointing.checkpoint_must_save_by=00:03:00:00", "set MARGIN=…"),
        ("policy.megatron_cfg.enabled=false", "read Megatron's checkpoints"),
        ("policy.dtensor_cfg.enabled=true", "read Megatron's checkpoints"),
        ("policy.sequence_packing.logprob_mb_tokens=1", "no log-probabilities"),
        ("policy.tokenizer.name=/x", "BASE=…"),
        ("data.train.input_key=x", "in this form"),
        ("defaults=/x", "NEMO_RL=…"),
        # What only works beside something else.
        ("policy.dynamic_batching.enabled=true", "sequence_packing.enabled=false beside it"),
        ("policy.megatron_cfg.optimizer.optimizer_cpu_offload=true", "offload_fraction=1.0 beside it"),
        ("policy.megatron_cfg.scheduler.end_weight_decay=0.1", "incr_style=linear beside it"),
        ("policy.precision=int8", "choose bfloat16, float16, float32"),
        ("policy.max_grad_norm=null", "0.0 clips nothing"),
        (
            "policy.max_grad_norm=0.5 policy.megatron_cfg.optimizer.clip_grad=1.0",
            "no effect beside policy.megatron_cfg.optimizer.clip_grad",
        ),
        # What is computed with has to be a number.
        ("policy.max_total_sequence_length=long", "is not a whole number from 1 up"),
        ("policy.train_micro_batch_size=0", "is not a whole number from 1 up"),
        ("policy.megatron_cfg.tensor_model_parallel_size=true", "is not a whole number from 1 up"),
        ("policy.train_global_batch_size=1.5", "is not a whole number from 1 up"),
        # Sizes as they come out, not as the table has them.
        ("policy.megatron_cfg.tensor_model_parallel_size=3", "multiple of 6"),
        ("policy.megatron_cfg.pipeline_model_parallel_size=3", "x pipeline parallel 3"),
        ("policy.train_global_batch_size=1000", "do not divide the batch of 1000"),
        ("policy.train_micro_batch_size=5", "do not divide the batch"),
        ("policy.make_sequence_length_divisible_by=3", "must be a multiple of 4"),
        ("policy.max_total_sequence_length=32769", "divide 32769 tokens"),
    ],
)
def test_overrides_that_a_chain_could_not_go_with(line, says):
    with pytest.raises(RequestError, match=says):
        written(recipe.run("7b", 1), overrides=line)


MEGATRON = "policy.megatron_cfg"


@pytest.mark.parametrize(
    ("line", "follows"),
    [
        ("policy.max_grad_norm=0.0", {f"{MEGATRON}.optimizer.clip_grad": 0.0}),
        (
            f"{MEGATRON}.optimizer.weight_decay=0.1",
            {
                f"{MEGATRON}.scheduler.start_weight_decay": 0.1,
                f"{MEGATRON}.scheduler.end_weight_decay": 0.1,
            },
        ),
        (
            "policy.max_total_sequence_length=8192",
            {
                "policy.sequence_packing.train_mb_tokens": 8192,
                "policy.sequence_packing.logprob_mb_tokens": 8192,
                "data.max_input_seq_length": 8193,
            },
        ),
        ("policy.train_micro_batch_size=2", {"policy.sequence_packing.train_mb_tokens": 65536}),
        (
            "policy.train_micro_batch_size=2 policy.sequence_packing.train_mb_tokens=40000",
            {"policy.sequence_packing.train_mb_tokens": 40000},
        ),
        (
            "policy.precision=float16",
            {
                f"{MEGATRON}.pipeline_dtype": "float16",
                f"{MEGATRON}.optimizer.bf16": False,
                f"{MEGATRON}.optimizer.fp16": True,
            },
        ),
        (f"{MEGATRON}.tensor_model_parallel_size=8", {"policy.make_sequence_length_divisible_by": 8}),
    ],
)
def test_what_follows_from_an_override(line, follows):
    """As upstream's own YAML ties them together by interpolation."""
    values = written(recipe.run("7b", 1), overrides=line)
    assert {key: at(values, key) for key in follows} == follows


def test_the_longest_row_is_trained():
    """The recipe cuts rows of more than 32,768 tokens, the pinned NeMo-RL those of its limit and more."""
    values = written(recipe.run("7b", 1))
    assert values["data"]["max_input_seq_length"] == values["policy"]["max_total_sequence_length"] + 1


def test_the_divisor_follows_the_parallel_sizes():
    line = "policy.megatron_cfg.context_parallel_size=8"
    assert written(recipe.run("7b", 1), overrides=line)["policy"]["make_sequence_length_divisible_by"] == 16
    both = f"{line} policy.make_sequence_length_divisible_by=64"
    assert written(recipe.run("7b", 1), overrides=both)["policy"]["make_sequence_length_divisible_by"] == 64
    assert written(recipe.run("7b", 1), overrides="checkpointing.save_period=1500")


@pytest.mark.parametrize(
    ("rows", "steps", "enough"),
    [
        (5_485_147, None, True),
        (10_000, 20, True),
        (1_023, 20, False),  # no whole batch
        (1_024, 100, True),
        (1_024, 101, False),  # a hundred epochs end before
        (300_000, None, False),
    ],
)
def test_rows_that_the_steps_need(rows, steps, enough):
    run = recipe.run("7b", 1, steps=steps, name="x" if steps else None)
    if enough:
        checks.rows(run, rows, written(run))
    else:
        with pytest.raises(RequestError, match="never reach step"):
            checks.rows(run, rows, written(run))


def test_what_differs_between_two_files():
    run = recipe.run("7b", 1)
    old = config.text(written(run), run)
    new = config.text(written(run, nodes=32, wandb=True, wandb_project="p", overrides="sft.seed=7"), run)
    assert checks.changes(old, new) == ["sft.seed was 42, is 7"]
    assert "cluster.num_nodes was 64, is 32" in checks.changes(old, new, but=("logger",))
    assert checks.changes("a: [", new) == checks.changes("text", new) == ["it is no YAML any more"]


@pytest.mark.parametrize(
    ("model", "nodes", "gpus", "says"),
    [
        ("7b", 2, 8, None),
        ("1.5b", 1, 2, None),
        ("32b", 4, 8, None),
        ("7b", 1, 4, "multiple of 8"),
        ("32b", 3, 8, "multiple of 32"),
        ("1.5b", 3, 8, "do not divide the batch"),
    ],
)
def test_parallel_sizes(model, nodes, gpus, says):
    run = recipe.run(model, 1)
    if says is None:
        assert written(run, nodes=nodes, gpus=gpus)["cluster"] == {"gpus_per_node": gpus, "num_nodes": nodes}
    else:
        with pytest.raises(RequestError, match=says):
            written(run, nodes=nodes, gpus=gpus)


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
@pytest.mark.parametrize("cp", [1, 2, 4, 8])
def test_sequence_divisor(tp, cp):
    """NeMo-Skills' four cases: both parallel, tensor alone, context alone, neither."""
    model = replace(recipe.MODELS["7b"], tensor_parallel=tp, context_parallel=cp)
    wanted = lcm(2 * cp, tp) if tp > 1 and cp > 1 else tp if tp > 1 else cp * 2 if cp > 1 else 1
    assert recipe.Run(model, recipe.ROUNDS["round1"], recipe.derive(8)).sequence_divisor == wanted


def test_wandb_on_when_asked_and_one_id_a_run():
    values = written(TEN[3], wandb=True, wandb_project="p", wandb_entity="team")["logger"]
    assert values["wandb_enabled"] is True
    assert values["wandb"] == {
        "project": "p",
        "name": "7b-round1",
        "entity": "team",
        "id": "7b-round1",
        "resume": "allow",
    }
    ids = {written(run)["logger"]["wandb"]["id"] for run in TEN}
    assert len(ids) == 10


def test_an_image_that_lost_a_key_is_noticed():
    values = written(TEN[0])
    example = {}
    for key in keys.known_keys():
        if not key.endswith(("?", "*")):
            keys.put(example, key, 0)
    assert keys.unknown_here(values, example) == []
    del example["policy"]["megatron_cfg"]["scheduler"]["lr_decay_style"]
    assert keys.unknown_here(values, example) == ["policy.megatron_cfg.scheduler.lr_decay_style"]


@pytest.mark.parametrize(
    ("model", "word", "epsilon"),
    [("7b", 1e-6, 1e-6), ("14b", 1e-6, 1e-6), ("7b", None, 1e-6), ("14b", None, 1e-5), ("32b", None, 1e-5)],
)
def test_one_word_of_the_recipe_trains_each_model_with_its_own_epsilon(monkeypatch, model, word, epsilon):
    monkeypatch.setattr(recipe, "TRAINED_EPSILON", word)
    assert written(recipe.run(model))["policy"]["megatron_cfg"]["layernorm_epsilon"] == epsilon


# --- with checkouts of NeMo-RL and NeMo-Skills: make test-nemo --------------------------------------------


def effective(path, overrides=()):
    """A configuration as NeMo-RL's own code loads it, under overrides as its command line takes them."""
    said = subprocess.run(
        [upstream.python(), LOADER, path, *overrides],
        cwd=checkout(),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(said.stdout)


def here(run, tmp_path, text=None):
    """The golden file, or another text, with its `defaults` in the checkout."""
    text = text or (GOLDEN / f"{run.model.name}-{run.key}.yaml").read_text()
    example = checkout() / PINNED_VERSION.example
    path = tmp_path / "nemo_rl.yaml"
    path.write_text(text.replace(f"{PINNED_VERSION.folder}/{PINNED_VERSION.example}", str(example)))
    return path


@pytest.mark.nemo
@RUNS
def test_loads_in_nemo_rl_itself(run, tmp_path):
    values = effective(here(run, tmp_path))
    assert {key: at(values, key) for key in expected(run)} == expected(run)
    # Whatever ours does not say is NeMo-RL's own default, and only what we meant to leave there.
    assert values["data"]["train"]["dataset_name"] == "ResponseDataset"
    assert "split" not in values["data"]["train"]
    assert values["policy"]["megatron_cfg"]["use_linear_ce_fusion_loss"] is False
    assert values["policy"]["megatron_cfg"]["peft"]["enabled"] is False
    assert values["policy"]["megatron_cfg"]["fp8_cfg"]["enabled"] is False
    # What a link adds for one launch goes through Hydra's grammar.
    launch = [
        "++checkpointing.checkpoint_must_save_by='00:03:30:00'",
        "++data.train.data_path=/prepared/a-b_c",
    ]
    values = effective(here(run, tmp_path), launch)
    assert values["checkpointing"]["checkpoint_must_save_by"] == "00:03:30:00"
    assert values["data"]["train"]["data_path"] == "/prepared/a-b_c"


# Published sizes: meta-llama/Llama-3.1-8B and Qwen/Qwen3-8B-Base.
FAMILIES = {
    "llama": (
        "hidden = 4096, layers = 32, heads = 32, kv_heads = 8, inner = 14336, vocabulary = 128256,"
        " tied = false, norm_epsilon = 1e-5, rope_scaling = {factor = 8.0, low_freq_factor = 1.0,"
        ' high_freq_factor = 4.0, original_max_position_embeddings = 8192, rope_type = "llama3"}'
    ),
    "qwen3": (
        "hidden = 4096, layers = 36, heads = 32, kv_heads = 8, inner = 12288, vocabulary = 151936,"
        " tied = false, norm_epsilon = 1e-6, head = 128"
    ),
}


@pytest.mark.nemo
@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_another_family_loads_in_nemo_rl_itself(family, tmp_path, monkeypatch):
    text = (reader.FOLDER / "openmathreasoning.toml").read_text()
    text = re.sub(r'("7b" +)= \{hidden.*', rf'\1= {{family = "{family}", {FAMILIES[family]}}}', text)
    (tmp_path / "mine.toml").write_text(text.replace("norm_epsilon = 1e-6   #", "#"))
    monkeypatch.setenv("RECIPE", str(tmp_path / "mine.toml"))
    recipe.forget()
    run = recipe.run("7b")
    path = tmp_path / "nemo_rl.yaml"
    example = str(checkout() / PINNED_VERSION.example)
    said = config.text(written(run), run)
    path.write_text(said.replace(f"{PINNED_VERSION.folder}/{PINNED_VERSION.example}", example))
    values = effective(path)
    published = effective(here(next(r for r in TEN if r.title == "7b round1"), tmp_path))
    # Another base and folder, the model's own epsilon: nothing else depends on the family.
    other = {key for key, value in keys.flatten(values) if at(published, key) != value}
    assert values["policy"]["model_name"] == "/workspace/models/mine-7b"
    assert values["policy"]["megatron_cfg"]["layernorm_epsilon"] == recipe.ARCHITECTURES["7b"].norm_epsilon
    epsilon = {"policy.megatron_cfg.layernorm_epsilon"} if family == "llama" else set()
    folders = {key for key in other if "mine" in str(at(values, key))}
    assert other - folders == epsilon, other
    recipe.forget()


@pytest.mark.nemo
def test_our_list_of_keys_is_the_checkout_s():
    example = yaml.safe_load((checkout() / PINNED_VERSION.example).read_text())
    have = {key + (".*" if value == {} else "") for key, value in keys.flatten(example)}
    assert have == {key for key in keys.known_keys() if not key.endswith("?")}
    for run in TEN:
        assert keys.unknown_here(written(run), example) == []


# Sections that NeMo-RL passes on whole (`**`), to Megatron and to the loggers.
PASSED_ON = (
    "policy.megatron_cfg.optimizer.",
    "policy.megatron_cfg.scheduler.",
    "logger.wandb.",
    "logger.tensorboard.",
)


@pytest.mark.nemo
def test_every_key_is_read_or_refused():
    """No key of the file can be changed in vain: the pinned code names it, or OVERRIDES may not touch it."""
    source = checkout()
    read = ("algorithms/sft.py", "algorithms/utils.py", "models/megatron/", "models/policy/lm_policy.py")
    read += ("models/policy/workers/megatron", "data/", "distributed/", "utils/")
    files = [source / "examples/run_sft.py"] + [
        path
        for path in (source / "nemo_rl").rglob("*.py")
        if path.relative_to(source / "nemo_rl").as_posix().startswith(read)
    ]
    code = "".join(path.read_text() for path in files)
    silent = [
        key
        for key, _ in keys.flatten(written(TEN[3]))
        if key not in checks.FIXED and not key.startswith(PASSED_ON)
        if not re.search(rf"[\[(]\s*[\"']{key.rpartition('.')[2]}[\"']", code)
    ]
    assert {*silent, f"{MEGATRON}.optimizer.weight_decay"} == set(ties.SILENT)  # their followers are read


# Where ours and NeMo-Skills' effective values differ, and why.
MEANT = {
    "data.max_input_seq_length": "this NeMo-RL cuts at it, NeMo-Skills' beyond it",
    "checkpointing.checkpoint_dir": "our folder",
    "checkpointing.checkpoint_must_save_by": "set at each launch",
    "checkpointing.metric_name": "val_loss needs a validation set",
    "checkpointing.keep_top_k": "50 without a metric deletes the oldest",
    "policy.tokenizer.chat_template": "infer_from_data gives null for input and output rows",
    "policy.make_sequence_length_divisible_by": "null there is computed at its start, by the rule above",
    "policy.max_grad_norm": "null there; Megatron's clip stays at its default of 1.0",
    "policy.optimizer": "DTensor's, not Megatron's",
    "policy.model_name": "our folder",
    "policy.tokenizer.name": "our folder",
    "logger.log_dir": "our folder",
    "logger.wandb.project": "our name",
    "logger.wandb.name": "our name",
    "logger.tensorboard.log_dir": "our folder",
    "logger.wandb_enabled": "off without a key",
}
# NeMo-Skills' keys that the pinned NeMo-RL does not read.
GONE = (
    "policy.fsdp_offload_enabled",
    "policy.activation_checkpointing_enabled",
    "policy.tensor_model_parallel_size",
    "policy.pipeline_model_parallel_size",
    "policy.context_parallel_size",
    "policy.sequence_parallel",
    "policy.lr",
    "policy.min_lr",
    "policy.weight_decay",
    "policy.scheduler",
    "policy.dtensor_cfg.",
    "policy.optimizer.",
    "policy.megatron_cfg.distributed_data_parallel_config.average_in_collective",
    "data.dataset_name",
    "data.input_key",
    "data.output_key",
    "data.force_reprocess",
    "data.train_data_path",
    "logger.mlflow.",
)


@pytest.mark.nemo
@RUNS
def test_equal_in_effect_to_nemo_skills(run, tmp_path):
    """NeMo-Skills' SFT YAML under the recipe's own arguments, key by key against ours."""
    skills = checkout("NEMO_SKILLS") / "nemo_skills/training/nemo_rl/configs/sft.yaml"
    lr, min_lr, tp, cp, _ = TABLE[run.model.name]
    steps, warmup, period, _ = ROUNDS[run.key]
    # As the recipe's page has it, but for the second round's save period, which it forgets.
    arguments = [
        "++policy.model_name=/m",
        "++cluster.gpus_per_node=8",
        "++cluster.num_nodes=64",
        "++policy.dtensor_cfg.enabled=false",
        "++policy.megatron_cfg.enabled=true",
        "+data.train_data_path=/d",
        "++policy.max_total_sequence_length=32768",
        "++policy.train_micro_batch_size=1",
        "++policy.train_global_batch_size=1024",
        f"++policy.tensor_model_parallel_size={tp}",
        f"++policy.context_parallel_size={cp}",
        f"++policy.lr={lr}",
        f"++policy.min_lr={min_lr}",
        f"++policy.megatron_cfg.scheduler.lr_warmup_iters={warmup}",
        "++policy.megatron_cfg.scheduler.lr_warmup_init=0",
        f"++checkpointing.save_period={period}",
        f"++sft.max_num_steps={steps}",
        "++sft.max_num_epochs=100",
    ]
    theirs = dict(keys.flatten(effective(skills, arguments)))
    ours = dict(keys.flatten(effective(here(run, tmp_path))))
    compared = 0
    for key, value in theirs.items():
        if key in MEANT or key.startswith(GONE):
            continue
        assert ours[key] == value, key
        compared += 1
    assert compared > 70
    assert ours["policy.megatron_cfg.optimizer.clip_grad"] == 1.0
    assert "policy.megatron_cfg.optimizer.clip_grad" not in theirs


def keys_of_edition(run, edition, tmp_path):
    """Every key and value of a run as NeMo-RL loads them, written into the folders of its pinned edition."""
    base, data = frozen.base_of(run, WORKSPACE), frozen.data_of(run, WORKSPACE)
    inputs = config.Inputs(replace(run, edition=edition), WORKSPACE.run(run), base, data)
    text = config.text(config.values(inputs), inputs.run)
    return dict(keys.flatten(effective(here(run, tmp_path, text))))


NAMES = {"logger.wandb.name", "logger.wandb.id"}


@pytest.mark.nemo
@pytest.mark.parametrize("run", [TEN[0], TEN[5], TEN[6], TEN[9]], ids=lambda run: run.title)
def test_nothing_else_differs_between_editions(run, tmp_path):
    """Each edition through NeMo-RL's own loader, beside the golden file's."""
    pinned = dict(keys.flatten(effective(here(run, tmp_path))))
    assert keys_of_edition(run, "pinned", tmp_path) == pinned
    differing = editions.differing(run)
    for edition in ("published", "current"):
        loaded = keys_of_edition(run, edition, tmp_path)
        assert loaded.keys() == pinned.keys()
        other = {key: value for key, value in loaded.items() if value != pinned[key]}
        assert other.keys() - NAMES == {k for k, v in differing.items() if v[edition] != v["pinned"]}
        assert all(value == differing[key][edition] for key, value in other.items() if key not in NAMES)


# What the newest page (docs/releases/openmathreasoning/training.md at recipe.editions.PAGE) gives NeMo-RL for
# 1.5b in round 1, but for what its `ns` adds: key and value, in NeMo-RL's sections.
PAGE = {
    "policy": "max_total_sequence_length=32768 train_micro_batch_size=1 train_global_batch_size=1024"
    " precision=bfloat16 max_grad_norm=0.0 tokenizer.chat_template=infer_from_data"
    " sequence_packing.enabled=True sequence_packing.sequence_length_round=64"
    " make_sequence_length_divisible_by=4",
    "policy.megatron_cfg": "tensor_model_parallel_size=1 pipeline_model_parallel_size=1"
    " context_parallel_size=2 sequence_parallel=false activation_checkpointing=false"
    " empty_unused_memory_level=1 expert_tensor_parallel_size=1 expert_model_parallel_size=1"
    " freeze_moe_router=false moe_router_dtype=null apply_rope_fusion=True bias_activation_fusion=True"
    " moe_permute_fusion=false moe_router_load_balancing_type=aux_loss moe_router_bias_update_rate=1e-3"
    " moe_token_dispatcher_type=alltoall moe_shared_expert_overlap=true layernorm_epsilon=1e-6"
    " defer_fp32_logits=False moe_per_layer_logging=False",
    "policy.megatron_cfg.optimizer": "optimizer=adam lr=3e-4 min_lr=3e-7 weight_decay=0.01 bf16=true"
    " fp16=false params_dtype=float32 adam_beta1=0.9 adam_beta2=0.98 adam_eps=1e-8"
    " use_distributed_optimizer=true use_precision_aware_optimizer=true clip_grad=0.0",
    "policy.megatron_cfg.scheduler": "lr_decay_style=cosine lr_decay_iters=30000 lr_warmup_iters=3000"
    " lr_warmup_init=0",
    "policy.megatron_cfg.distributed_data_parallel_config": "grad_reduce_in_fp32=false"
    " overlap_grad_reduce=true overlap_param_gather=true data_parallel_sharding_strategy=optim_grads_params",
    "data": "add_bos=false add_eos=false add_generation_prompt=false num_workers=10",
    "checkpointing": "save_period=7500 keep_top_k=50 metric_name=val:val_loss higher_is_better=false",
    "logger": "tensorboard_enabled=true swanlab_enabled=false monitor_gpus=true",
    "sft": "val_period=0 val_batches=1 val_global_batch_size=32 val_micro_batch_size=1 val_at_start=false"
    " seed=42 max_num_steps=30000 max_num_epochs=100",
}
# Where EDITION=current differs from it in effect, and why.
MEANT_BESIDE_THE_PAGE = {
    "checkpointing.checkpoint_dir": "our folder",
    "checkpointing.metric_name": "val_loss needs a validation set",
    "checkpointing.keep_top_k": "50 without a metric deletes the oldest",
    "policy.model_name": "our folder",
    "policy.tokenizer.name": "our folder",
    "policy.tokenizer.chat_template": "infer_from_data gives null for input and output rows",
    "policy.dtensor_cfg.enabled": "by its --backend=megatron",
    "policy.megatron_cfg.enabled": "by its --backend=megatron",
    "policy.optimizer": "DTensor's, not Megatron's",
    "policy.megatron_cfg.moe_shared_expert_overlap": "of mixtures of experts alone",
    "policy.sequence_packing.logprob_mb_tokens": "no log-probabilities are computed",
    "data.train": "our file",
    "data.validation": "none",
    "data.default": "the page's `ns` sets its own",
    "logger": "where it logs",
    "cluster": "by its --num_nodes and --num_gpus",
}


@pytest.mark.nemo
def test_current_is_the_newest_page_in_effect(tmp_path):
    """The page's command under NeMo-RL's own defaults, key by key against ours."""
    arguments = [f"++{section}.{word}" for section, words in PAGE.items() for word in words.split()]
    theirs = dict(keys.flatten(effective(checkout() / PINNED_VERSION.example, arguments)))
    ours = keys_of_edition(recipe.run("1.5b"), "current", tmp_path)
    other = {key for key in ours.keys() | theirs.keys() if ours.get(key, ...) != theirs.get(key, ...)}
    unmeant = {
        key for key in other if not f"{key}.".startswith(tuple(f"{k}." for k in MEANT_BESIDE_THE_PAGE))
    }
    assert not unmeant
    assert all(any(f"{key}.".startswith(f"{meant}.") for key in other) for meant in MEANT_BESIDE_THE_PAGE)
    assert len(theirs.keys() - other) > 100


@pytest.mark.nemo
@pytest.mark.parametrize("tp", [1, 2, 4, 8])
@pytest.mark.parametrize("cp", [1, 2, 4, 8])
def test_sequence_divisor_is_nemo_skills_own(tp, cp):
    import ast

    tree = ast.parse((checkout("NEMO_SKILLS") / "nemo_skills/utils.py").read_text())
    name = "setup_make_sequence_length_divisible_by"
    rule = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    scope = {"lcm": lcm}
    exec(compile(ast.Module([rule], []), "utils.py", "exec"), scope)
    model = replace(recipe.MODELS["7b"], tensor_parallel=tp, context_parallel=cp)
    run = recipe.Run(model, recipe.ROUNDS["round1"], recipe.derive(8))
    assert run.sequence_divisor == scope[name](tp, cp)
