"""LAUNCHER=ns: NeMo-Skills' own command line, the recipe's for round 1 and a corrected one for round 2."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from omr import manifest, recipe, settings
from omr.cluster import ns
from omr.cluster.submit import Submission
from omr.errors import RequestError
from omr.request import TrainRequest
from omr.run import frozen
from omr.workspace import Workspace

WORKSPACE = Workspace(Path("/workspace"))
# The recipe's page, with the folders of this toolkit in place of its own.
ROUND_1 = """
ns nemo_rl sft
    --cluster=slurm
    --expname=openmathreasoning-repro-{model}
    --output_dir=/workspace/runs/{model}/round1/checkpoints
    --hf_model=/workspace/models/{model}
    --num_nodes=64
    --num_gpus=8
    --backend=megatron
    --average_steps=7500,15000,22500,30000
    --training_data=/workspace/data/openmathreasoning-round1.jsonl
    ++policy.max_total_sequence_length=32768
    ++policy.train_micro_batch_size=1
    ++policy.train_global_batch_size=1024
    ++policy.tensor_model_parallel_size={tp}
    ++policy.context_parallel_size={cp}
    ++policy.lr={lr}
    ++policy.min_lr={min_lr}
    ++policy.megatron_cfg.scheduler.lr_warmup_iters=3000
    ++policy.megatron_cfg.scheduler.lr_warmup_init=0
    ++checkpointing.save_period=7500
    ++sft.max_num_steps=30000
    ++sft.max_num_epochs=100
"""
TABLE = {
    "1.5b": ("3e-4", "3e-7", 1, 2),
    "7b": ("2e-4", "2e-7", 4, 2),
    "14b": ("1e-4", "1e-7", 8, 2),
    "32b": ("1e-4", "1e-7", 8, 4),
}


def argv(run, space=WORKSPACE, links=1, **words):
    return ns.argv(TrainRequest.of(run, **words), space, links)


@pytest.fixture(autouse=True)
def wandb_key(monkeypatch):
    """As the recipe's page has it: W&B is on."""
    monkeypatch.setenv("WANDB_API_KEY", "s3cret")
    for name in ("QOS", "WANDB_PROJECT", "CONTAINER"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("model", TABLE)
def test_round_1_is_the_recipe_s_own(model):
    lr, min_lr, tp, cp = TABLE[model]
    wanted = shlex.split(ROUND_1.format(model=model, lr=lr, min_lr=min_lr, tp=tp, cp=cp))
    assert argv(recipe.run(model, 1)) == wanted


@pytest.mark.parametrize(
    ("variant", "key", "steps", "warmup", "period", "averaged"),
    [
        ("recommended", "round2", 3000, 300, 750, "750,1500,2250,3000"),
        ("paper", "round2-paper", 10000, 1000, 2500, "2500,5000,7500,10000"),
    ],
)
def test_round_2_is_corrected(variant, key, steps, warmup, period, averaged):
    first, second = argv(recipe.run("7b", 1)), argv(recipe.run("7b", 2, variant))
    assert [word for word in second if word not in first] == [
        f"--expname=openmathreasoning-repro-7b-{key}",
        f"--output_dir=/workspace/runs/7b/{key}/checkpoints",
        "--hf_model=/workspace/runs/7b/round1/final",
        f"--average_steps={averaged}",
        f"--training_data=/workspace/data/openmathreasoning-{key}.jsonl",
        f"++policy.megatron_cfg.scheduler.lr_warmup_iters={warmup}",
        f"++checkpointing.save_period={period}",
        f"++sft.max_num_steps={steps}",
        "++checkpointing.metric_name=null",
        "++checkpointing.keep_top_k=null",
    ]


def test_links_and_size():
    words = argv(recipe.run("7b", 1, name="x"), links=4, nodes=2, gpus=4, overrides="a.b=1 ++c=2")
    assert {"--num_training_jobs=4", "--num_nodes=2", "--num_gpus=4"} < set(words)
    assert words[-2:] == ["++a.b=1", "++c=2"]


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"WANDB_API_KEY": ""}, ["--disable_wandb"]),
        ({"WANDB_PROJECT": "math"}, ["--wandb_project=math"]),
        ({"WANDB_API_KEY": "", "WANDB_PROJECT": "math"}, ["--disable_wandb"]),
        ({"QOS": "long"}, ["--qos=long"]),
    ],
)
def test_what_the_site_sets_is_passed_on(settings, options, monkeypatch):
    usual = argv(recipe.run("7b", 1))
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    words = argv(recipe.run("7b", 1))
    assert [word for word in words if word not in usual] == options
    assert words.index(options[0]) < words.index("++policy.lr=2e-4")


def test_another_container_is_refused(monkeypatch):
    monkeypatch.setenv("CONTAINER", "/images/train.sqsh")
    request = TrainRequest.of(recipe.run("7b", 1))
    with pytest.raises(RequestError, match=r"runs in NeMo-Skills' own image .*; leave it out"):
        ns.train(request, WORKSPACE, Submission(1), print)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ({}, None),
        ({"commit": ""}, None),  # installed from a folder
        ({"Python": (3, 11)}, "runs with Python 3.11, and the pinned NeMo-Skills needs one before 3.11"),
        ({"Python": (3, 13), "typer": (0, 29)}, "Python 3.13"),
        ({"typer": (0, 29)}, "runs with typer 0.29"),
        ({"typer": (1, 0)}, "runs with typer 1.0"),
        (
            {"commit": "f" * 40},
            r"ns: is of NeMo-Skills ffffffff, and LAUNCHER=ns speaks to the pinned 8b18f399",
        ),
        (
            {"commit": "", "links": False},
            "a NeMo-Skills without --num_training_jobs, .* or use LAUNCHER=sbatch",
        ),
        (None, None),  # it does not say: then it has no nemo-skills, and says so itself
    ],
)
def test_an_ns_that_would_break_is_refused(found, says, tmp_path, monkeypatch):
    pinned = settings.pins()["NEMO_SKILLS_COMMIT"]
    usual = {"Python": (3, 10), "typer": (0, 20), "commit": pinned, "links": True}
    python = tmp_path / "python3"
    said = "" if found is None else json.dumps(usual | found)
    python.write_text(f"#!/bin/sh\necho '{said}'\n")
    (tmp_path / "ns").write_text(f"#!{python}\n")
    for tool in (python, tmp_path / "ns"):
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if says is None:
        ns.check_program("ns")
    else:
        with pytest.raises(RequestError, match=says):
            ns.check_program("ns")


OPTIONS = {
    "num_training_jobs: int = typer.Option(1)": True,
    "dependent_jobs: int = typer.Option(0)": False,
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("commit", ["", "a" * 40])
def test_what_an_installed_nemo_skills_is(option, commit, tmp_path):
    """By the metadata that pip leaves (PEP 610), without importing it."""
    package = tmp_path / "nemo_skills/pipeline/nemo_rl"
    package.mkdir(parents=True)
    (tmp_path / "nemo_skills/__init__.py").write_text("raise SystemExit('imported')\n")
    (package / "sft.py").write_text(option)
    for name, version in {"nemo_skills": "0.7.0", "typer": "0.20.1"}.items():
        metadata = tmp_path / f"{name}-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    origin = {"url": "x", "vcs_info": {"vcs": "git", "commit_id": commit}} if commit else {"dir_info": {}}
    (tmp_path / "nemo_skills-0.7.0.dist-info/direct_url.json").write_text(json.dumps(origin))
    said = subprocess.check_output([sys.executable, "-c", ns.ASK], cwd="/", env={"PYTHONPATH": str(tmp_path)})
    assert json.loads(said) == {
        "Python": list(sys.version_info[:2]),
        "typer": [0, 20],
        "commit": commit,
        "links": OPTIONS[option],
    }


@pytest.mark.parametrize(
    ("run", "added"),
    [
        (recipe.run("7b", edition="published"), ["++policy.megatron_cfg.optimizer.clip_grad=0.0"]),
        (
            recipe.run("14b", edition="published"),
            ["++policy.megatron_cfg.layernorm_epsilon=1e-5", "++policy.megatron_cfg.optimizer.clip_grad=0.0"],
        ),
        (
            recipe.run("14b", edition="current"),
            [
                "++policy.megatron_cfg.optimizer.clip_grad=0.0",
                "++policy.megatron_cfg.empty_unused_memory_level=1",
                "++data.max_input_seq_length=32767",
            ],
        ),
    ],
    ids=lambda run: getattr(run, "title", None),
)
def test_an_edition_is_passed_on(run, added):
    pinned, own = argv(recipe.run(run.model.name)), argv(run)
    assert own[-len(added) :] == added and len(own) == len(pinned) + len(added)
    name = f"--expname=openmathreasoning-repro-{run.model.name}"
    assert name in pinned and f"{name}-{run.key}" in own


def test_cluster_file_has_names_of_secrets_alone(monkeypatch):
    for name, value in {
        "ACCOUNT": "acc",
        "PARTITION": "gpu",
        "CPU_PARTITION": "cpu",
        "TIME": "4:00:00",
        "HF_HOME": "/shared/hf",
        "WANDB_API_KEY": "s3cret",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("NGC_API_KEY", raising=False)
    assert ns.cluster_file(WORKSPACE, "/a:/b,/c:/d") == {
        "executor": "slurm",
        "containers": {"nemo-rl": ns.IMAGE},
        "job_dir": "/workspace/ns",
        "job_name_prefix": "omr:",
        "account": "acc",
        "partition": "gpu",
        "cpu_partition": "cpu",
        "timeouts": {"gpu": "4:00:00"},
        "mounts": ["/workspace:/workspace", "/a:/b", "/c:/d"],
        "env_vars": ["HF_HOME=/shared/hf", "WANDB_API_KEY"],
    }


def test_submit_writes_the_cluster_file_and_runs_ns(tmp_path, monkeypatch):
    seen = tmp_path / "seen"
    tool = tmp_path / "bin" / "ns"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nprintf "%s\\n" "$NEMO_SKILLS_CONFIG_DIR" "$@" > {seen}\n')
    tool.chmod(0o755)
    space, run = Workspace(tmp_path), recipe.run("7b", 1)
    words = argv(run, space)
    with pytest.raises(RequestError, match="ns is not installed"):
        monkeypatch.setenv("PATH", "/nonexistent")
        ns.check_program(words[0])
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    said = []
    ns.submit(run, space, words, said.append, dry_run=True)
    assert not (space.run(run).root / "ns").exists() and "++policy.lr=2e-4" in said[0]
    ns.check_program(words[0])  # a wrapper of the site's own
    ns.submit(run, space, words, print)
    assert seen.read_text().splitlines() == [str(space.run(run).root / "ns"), *words[1:]]
    assert (space.run(run).root / "ns" / "slurm.yaml").exists()


def finished(path, name="manifest.json"):
    path.mkdir(parents=True)
    (path / name).write_text("{}")


@pytest.mark.parametrize(
    ("ours", "theirs", "base"),
    [
        (True, True, "final"),
        (False, True, "checkpoints/final_hf_model"),
        (False, False, "final"),  # said by `check`
    ],
)
def test_round_2_starts_where_round_1_really_ended(tmp_path, ours, theirs, base):
    """NeMo-Skills leaves its average below the checkpoints' folder, not where the recipe's round 2 reads."""
    space = Workspace(tmp_path)
    first = space.run(recipe.run("7b", 1))
    if ours:
        finished(first.final)
    if theirs:
        finished(first.checkpoints / "final_hf_model", "config.json")
    assert f"--hf_model={first.root / base}" in argv(recipe.run("7b", 2), space)


def test_what_is_not_there_is_said_before_the_nodes_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(ns.slurm, "available", lambda: False)
    space, run = Workspace(tmp_path), recipe.run("7b", 2)
    with pytest.raises(RequestError, match="final is not there"):
        ns.check(TrainRequest.of(run), space)
    finished(space.run(recipe.run("7b", 1)).checkpoints / "final_hf_model", "config.json")
    with pytest.raises(RequestError, match=r"round2\.jsonl is not there, or not finished; run make data"):
        ns.check(TrainRequest.of(run), space)
    data = space.data("openmathreasoning", "round2")
    data.parent.mkdir()
    data.touch()
    data.with_suffix(".manifest.json").write_text("{}")
    ns.check(TrainRequest.of(run), space)
    space.run(run).root.mkdir(parents=True)
    for record in (space.run(run).jobs_json, space.run(run).run_json):
        record.write_text("{}")
    with pytest.raises(RequestError, match="begun with LAUNCHER=sbatch"):
        ns.check(TrainRequest.of(run), space)


def test_an_override_with_spaces_stays_one_word():
    words = argv(recipe.run("7b", 1, name="x"), overrides="'logger.wandb.notes=two words' a=1")
    assert words[-2:] == ["++logger.wandb.notes=two words", "++a=1"]


def test_an_epsilon_of_the_models_own_is_passed_on(monkeypatch):
    word = "++policy.megatron_cfg.layernorm_epsilon=1e-5"
    assert word not in argv(recipe.run("14b", 1))  # NeMo-Skills' own YAML has 1e-6
    monkeypatch.setattr(recipe, "TRAINED_EPSILON", None)
    assert word in argv(recipe.run("14b", 1)) and word not in argv(recipe.run("7b", 1))


@pytest.fixture
def ready(tmp_path, monkeypatch):
    """A workspace with base and data of 7b's round 1, and an `ns` that does nothing."""
    tool = tmp_path / "bin" / "ns"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    monkeypatch.setattr(ns.slurm, "available", lambda: False)
    space = Workspace(tmp_path / "w")
    base, data = space.model("7b"), space.data("openmathreasoning", "round1")
    base.mkdir(parents=True)
    manifest.write(base, {}, files={"config.json": {"sha256": "0", "size": 1}})
    data.parent.mkdir()
    data.touch()
    manifest.write(data, {}, sha256="0", size=0, rows=10_000)
    return space


def test_what_a_run_began_with_is_written_down(ready):
    """make average finishes what `ns` trained: it asks for the base and the data that were trained on."""
    run = recipe.run("7b", 1, name="x")
    ns.train(TrainRequest.of(run), ready, Submission(1, dry_run=True), lambda line: None)
    assert frozen.read(ready.run(run)) is None
    ns.train(TrainRequest.of(run), ready, Submission(1), print)
    began = frozen.read(ready.run(run))
    assert (began.engine, began.data.rows, began.base.path) == ("nemo-rl", 10_000, ready.model("7b"))
    ns.train(TrainRequest.of(run), ready, Submission(1), print)  # another link, the same request
    with pytest.raises(RequestError, match="was started with another request: overrides"):
        ns.train(TrainRequest.of(run, overrides="a=1"), ready, Submission(1), print)


def test_a_base_of_ns_itself_has_nothing_to_write_down(ready):
    """Round 2 from NeMo-Skills' own average: it trains, and is told that make average cannot finish it."""
    finished(ready.run(recipe.run("7b", 1)).checkpoints / "final_hf_model", "config.json")
    data = ready.data("openmathreasoning", "round2")
    data.touch()
    manifest.write(data, {}, sha256="0", size=0, rows=10_000)
    said = []
    ns.train(TrainRequest.of(recipe.run("7b", 2)), ready, Submission(1), said.append)
    assert "final_hf_model has no manifest.json, so make average cannot finish this run" in said[0]
    assert "make average MODEL=7b ROUND=1 makes a base that it can" in said[0]
