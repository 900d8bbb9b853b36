"""How each thing of a workspace is, and what to type next."""

import json

import pytest

from omr import files, manifest
from omr.cluster import slurm
from omr.errors import RequestError
from omr.models import weights
from omr.reports.workspace import inventory, page
from omr.run import checkpoints, frozen
from omr.workspace import Workspace
from tests.reports import kit

WORDS = "MODEL=tiny ROUND=1 NAME=page STEPS=8"


@pytest.fixture(autouse=True)
def nothing_is_hashed(monkeypatch):
    """Whatever reads whole files fails here."""

    def refuse(*_, **__):
        raise AssertionError("a page of the workspace hashes nothing")

    for module, name in (
        (files, "sha256"),
        (files, "digest_of_ends"),
        (checkpoints, "damage"),
        (weights, "shards"),
    ):
        monkeypatch.setattr(module, name, refuse)


@pytest.fixture
def folder(tmp_path):
    return kit.begin(tmp_path)[1]


def of_run(folder, **more):
    [run] = inventory.take(Workspace(folder.root.parents[2]), **more).runs
    return run


def submit(folder, monkeypatch, state):
    """A chain of one job, of which Slurm says this."""
    jobs = [{"key": "train-1", "id": "7"}]
    folder.jobs_json.write_text(json.dumps({"chain": "c", "jobs": jobs}))
    monkeypatch.setattr(slurm, "jobs", lambda ids: {"7": slurm.Queued("7", state, "", "omr")})
    monkeypatch.setattr(slurm, "available", lambda: False)


@pytest.mark.parametrize(
    ("slurm_says", "log", "state", "follows"),
    [
        (None, [], "stopped", f"make train {WORDS}"),
        ("RUNNING", [], "running", f"make status {WORDS}"),
        ("PENDING", [], "queued", f"make status {WORDS}"),
        ("FAILED", ["link 1 of 1, job 7: refused: the data changed"], "refused", f"make train {WORDS}"),
        ("FAILED", ["link 1 of 1, job 7: refused: x", "link 1 of 1, job 7: trains from the start"], "stopped",
         f"make train {WORDS}"),
        ("RUNNING", ["link 1 of 1, job 7: refused: x"], "running", f"make status {WORDS}"),
    ],
)  # fmt: skip
def test_an_unfinished_run(folder, monkeypatch, slurm_says, log, state, follows):
    folder.metrics.write_text('{"step": 3, "loss": 2.5, "time": 1}\n')
    if slurm_says:
        submit(folder, monkeypatch, slurm_says)
    for line in log:
        kit.log(folder, 0, line)
    run = of_run(folder)
    assert (run.state, run.next) == (state, follows)
    assert run.told.startswith("step 3 of 8, loss 2.500")


def test_a_stopped_run_goes_on_with_the_words_that_it_was_begun_with(folder):
    values = json.loads(folder.run_json.read_text())
    values["request"] |= {"limit": 100, "overrides": "a.b=1", "engine": "nemo-rl"}
    folder.run_json.write_text(json.dumps(values))
    assert of_run(folder).next == f"make train {WORDS} ENGINE=nemo-rl LIMIT=100 OVERRIDES=a.b=1"


@pytest.mark.parametrize("stage", ["train", "average"])
def test_a_stage_on_this_machine_runs_while_it_holds_its_lock(folder, stage):
    with files.lock(folder.root / f".{stage}.lock", "x"):
        assert of_run(folder).state == "running"
    assert of_run(folder).state == "stopped"


def test_a_finished_run_from_evaluation_to_pruning(folder):
    kit.finish(folder)
    evaluated = folder.eval_json.read_bytes()
    folder.eval_json.unlink()
    assert of_run(folder).next == f"make eval {WORDS}"
    folder.eval_json.write_bytes(evaluated)
    assert of_run(folder).next == f"make report {WORDS}" and of_run(folder).accuracy == 0.75
    folder.report.write_text("page")
    (folder.checkpoint(2) / "weights").write_bytes(b"x" * 5000)
    run = of_run(folder)
    assert (run.next, run.prunable, run.page) == (f"make prune {WORDS}", 5000, folder.report)
    for step in (2, 4, 6, 8):
        (folder.checkpoint(step) / "weights").unlink(missing_ok=True)
        folder.checkpoint(step).rmdir()
    assert of_run(folder).next == f"make ask {WORDS} Q=…"


def test_a_damaged_run_is_one_line_and_not_the_end_of_the_page(folder):
    folder.run_json.write_text('{"request": ')
    run = of_run(folder)
    assert run.state == "unreadable" and "is not whole JSON" in run.told


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.json", '{"request": {"recipe": 5}}'),
        ("run.json", "[" * 100_000),
        ("links.json", '{"attempts": 5}'),
        ("jobs.json", '{"jobs": [{"key": "train-1", "id": "-u root"}]}'),
    ],
)
def test_a_damaged_record_costs_its_run_a_line_and_no_other_run(folder, tmp_path, name, text):
    kit.begin(tmp_path, name="other")
    (folder.root / name).write_text(text)
    if name == "links.json":
        folder.metrics.write_text("".join(f'{{"step": {n}, "time": {n}}}\n' for n in range(1, 5)))
    other, run = inventory.take(Workspace(tmp_path), limit=100).runs
    assert (run.state, other.state) == ("unreadable", "stopped")
    assert run.told.startswith(f"{folder.root / name}: ") and run.told.isprintable() and run.next == ""
    page.write(inventory.take(Workspace(tmp_path)), Workspace(tmp_path))


@pytest.mark.parametrize("splits", [{"cot": {}}, {"cot": {"kept": "8"}}])
def test_a_damaged_manifest_costs_its_file_a_line(folder, tmp_path, splits):
    workspace = Workspace(tmp_path)
    manifest.write(workspace.data("tiny", "round1"), {}, sha256="22", size=4, rows=1, splits=splits)
    manifest.write(workspace.model("tiny"), {"model": 5}, files={})
    found = inventory.take(workspace)
    for [item] in (found.data, found.models):
        assert item.state == "unreadable" and "manifest.json: is damaged (" in item.told


def test_a_folder_of_somebody_else_is_one_line(folder, tmp_path, monkeypatch):
    kit.begin(tmp_path, name="other")
    read = frozen.read

    def refuse(one):
        if one.root == folder.root:
            raise PermissionError(13, "Permission denied", str(one.run_json))
        return read(one)

    monkeypatch.setattr(frozen, "read", refuse)
    other, run = inventory.take(Workspace(tmp_path)).runs
    assert (other.state, run.told) == ("stopped", f"{folder.run_json}: Permission denied")


def test_a_model_of_another_recipe_names_it(tmp_path):
    model = Workspace(tmp_path).model("larger-small")
    model.mkdir(parents=True)
    manifest.write(model, {"model": "small"}, files={})
    [found] = inventory.take(Workspace(tmp_path)).models
    assert found.next == "make train RECIPE=larger.toml MODEL=small"


def test_what_quality_found_is_part_of_the_data(folder, tmp_path):
    data = Workspace(tmp_path).data("tiny", "round1")
    lists = data.with_suffix(".quality")
    lists.mkdir()
    (lists / "wrong.txt").write_text("x" * 7)
    data.with_suffix(".quality.json").write_text("{}")
    [found] = inventory.take(Workspace(tmp_path)).data
    assert found.size.files == 4


def test_a_chain_that_no_link_has_begun(tmp_path, monkeypatch):
    run, folder = kit.begin(tmp_path)
    folder.run_json.unlink()
    assert inventory.take(Workspace(tmp_path)).runs == []
    submit(folder, monkeypatch, "PENDING")
    values = json.loads(folder.jobs_json.read_text())
    folder.jobs_json.write_text(json.dumps({**values, "recipe": run.as_dict()}))
    assert of_run(folder).state == "queued" and of_run(folder).name == "tiny round1-page"


def test_data_and_models(folder):
    workspace = Workspace(folder.root.parents[2])
    data, model = workspace.data("tiny", "round1"), workspace.model("tiny")
    (workspace.root / "data" / ".tiny-round2.work").mkdir()
    (workspace.model("7b")).mkdir()
    found = inventory.take(workspace)
    first, second = found.data
    assert (first.name, first.state, first.next) == (
        "tiny-round1", "finished", "make data-report DATASET=tiny ROUND=1 MODES=cot,tir SEED=5"
    )  # fmt: skip
    assert first.told == "13 rows: cot 8, tir 5" and first.size.files == 2
    assert (second.name, second.state) == ("tiny-round2", "stopped")
    assert [(m.name, m.state, m.next) for m in found.models] == [
        ("7b", "stopped", "make model MODEL=7b"),
        ("tiny", "finished", "make train MODEL=tiny"),
    ]
    with files.lock(data.with_name(".tiny-round1.lock"), "x"), files.lock(model.with_name(".tiny.lock"), "x"):
        found = inventory.take(workspace)
        assert found.data[0].state == found.models[1].state == "running"
    manifest.write(data, {"corpus": "tiny", "round": "round1"}, sha256="22ff", rows=1, splits={})
    data.with_suffix(".lengths.json").write_text("{}")
    assert inventory.take(workspace).data[0].state == "unreadable"


def test_every_file_is_counted_once(folder):
    kit.finish(folder)
    workspace = Workspace(folder.root.parents[2])
    (workspace.root / "raw/tiny").mkdir(parents=True)
    (workspace.root / "raw/tiny/x.parquet").write_bytes(b"12345")
    found = inventory.take(workspace)
    there = [p for p in workspace.root.rglob("*") if p.is_file()]
    assert found.size.files == len(there) and found.size.bytes == sum(p.stat().st_size for p in there)
    assert found.rest["raw"].bytes == 5


def test_an_empty_workspace(tmp_path):
    found = inventory.take(Workspace(tmp_path / "none"))
    assert (found.data, found.models, found.runs, found.rest) == ([], [], [], {})


def test_json_is_plain(folder):
    found = inventory.take(Workspace(folder.root.parents[2]))
    values = json.loads(json.dumps(inventory.as_json(found)))
    assert values["runs"][0]["state"] == "stopped" and values["root"] == str(folder.root.parents[2])


def test_one_run_alone(tmp_path):
    run, folder = kit.begin(tmp_path)
    assert inventory.of_run(run, folder, Workspace(tmp_path)).name == "tiny round1-page"
    folder.run_json.unlink()
    with pytest.raises(RequestError, match="there is no such run yet; run make train MODEL=tiny"):
        inventory.of_run(run, folder, Workspace(tmp_path))
