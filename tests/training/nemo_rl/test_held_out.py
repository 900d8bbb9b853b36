"""Held-out rows in NeMo-RL: its configuration, their prepared form, and the loss of each split."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from omr import manifest, recipe
from omr.errors import OmrError, RequestError
from omr.files import sha256
from omr.run import validation
from omr.run.validation import ValidationFile
from omr.training.nemo_rl import by_split, config, driver, engine_file, prepared_data
from omr.workspace import Workspace
from tests.training.nemo_rl.test_config import at, written

SPLITS = ("cot", "genselect")
FILES = tuple(ValidationFile(split, Path(f"/d.validation/{split}.jsonl"), "0", 9, 2) for split in SPLITS)
RUN = recipe.run("7b", 1, name="held")


# --- the configuration ---------------------------------------------------------------


@pytest.mark.parametrize("model", ["1.5b", "7b", "14b", "32b"])
def test_they_are_looked_at_at_every_save(model):
    run = recipe.run(model, 1)
    plain, values = written(run), written(run, held_out=FILES)
    assert values["sft"] == {
        **plain["sft"],
        **{"val_period": 7_500, "val_batches": 0, "val_at_end": True},
        **{"val_global_batch_size": 1_024, "val_micro_batch_size": 1},
    }
    sets = values["data"].pop("validation")
    assert [one.pop("data_path") for one in sets] == [str(file.path) for file in FILES]
    train = {key: value for key, value in values["data"]["train"].items() if key != "data_path"}
    assert sets == [train, train]
    assert values["checkpointing"] == plain["checkpointing"]
    del plain["data"]["validation"], plain["sft"], values["sft"]
    assert values == plain


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("sft.val_period=500", {"sft.val_period": 500}),
        ("sft.val_period=0 sft.val_at_end=false", {"sft.val_period": 0, "sft.val_at_end": False}),
        ("sft.val_at_start=true", {"sft.val_at_start": True}),
        ("sft.val_batches=2", {"sft.val_batches": 2}),
        ("sft.val_global_batch_size=512", {"sft.val_global_batch_size": 512}),
        ("policy.train_global_batch_size=2048", {"sft.val_global_batch_size": 2048}),
        ("policy.train_micro_batch_size=2", {"sft.val_micro_batch_size": 2}),
    ],
)
def test_overrides_of_when_and_how(line, found):
    values = written(RUN, held_out=FILES, overrides=line)
    assert {key: at(values, key) for key in found} == found


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sft.val_period=-1", "sft.val_period=-1 is not a whole number from 0 up"),
        ("sft.val_period=often", "is not a whole number"),
        ("sft.val_batches=true", "is not a whole number"),
        ("sft.val_global_batch_size=0", "is not a whole number from 1 up"),
        ("sft.val_global_batch_size=100", "no multiple of 64, the data-parallel ranks times"),
        ("checkpointing.metric_name=val:val_loss", "every averaged step is kept"),
        ("data.validation=/x", "make data VALIDATION=… NAME=… holds rows out"),
    ],
)
def test_overrides_that_could_not_go_on(line, said):
    with pytest.raises(RequestError, match=said):
        written(RUN, held_out=FILES, overrides=line)


def test_every_size_of_the_machine_divides_their_batch():
    for nodes in (1, 2, 4, 8, 16, 32, 64):
        written(RUN, held_out=FILES, nodes=nodes)


# --- the prepared form ---------------------------------------------------------------


@pytest.fixture
def held(tmp_path):
    """Data of which rows of two splits are held out: the workspace and the SFT file."""
    data = tmp_path / "data" / "tiny-round1-held.jsonl"
    folder = validation.folder_of(data)
    folder.mkdir(parents=True)

    def rows(count, word):
        return "".join(json.dumps({"input": f"{word} {n}", "output": f"a {n}"}) + "\n" for n in range(count))

    data.write_text(rows(9, "train"))
    splits = {}
    for split, count in (("cot", 3), ("genselect", 1)):
        path = folder / f"{split}.jsonl"
        path.write_text(rows(count, split))
        splits[split] = {"sha256": sha256(path), "size": path.stat().st_size, "rows": count}
    facts = {"sha256": sha256(data), "size": data.stat().st_size, "rows": 9}
    manifest.write(data, {}, **facts, validation={"problems": 2, "splits": splits})
    return Workspace(tmp_path), data


def messages(folder):
    import pyarrow as pa

    with pa.memory_map(str(folder / "data-00000-of-00001.arrow")) as source:
        return [row[0]["content"] for row in pa.ipc.open_stream(source).read_all()["messages"].to_pylist()]


def test_they_are_prepared_beside_the_data(held):
    space, data = held
    out = prepared_data.make(space, data, workers=1)
    assert len(messages(out)) == 9
    assert messages(out / "validation-cot") == ["cot 0", "cot 1", "cot 2"]
    assert messages(out / "validation-genselect") == ["genselect 0"]
    files = validation.files_of(data)
    assert prepared_data.finished(space, sha256(data), None, files)
    assert not prepared_data.finished(space, sha256(data), None), "of data without held-out rows"
    (out / "validation-cot/state.json").unlink()
    assert not prepared_data.finished(space, sha256(data), None, files)
    assert prepared_data.make(space, data, workers=1) == out
    assert prepared_data.finished(space, sha256(data), None, files)


@pytest.mark.slow
def test_datasets_reads_them_as_its_own(held):
    datasets = pytest.importorskip("datasets")
    out = prepared_data.make(*held, workers=1)
    read = datasets.load_from_disk(str(out / "validation-cot"))
    assert read.column_names == ["messages"] and len(read) == 3
    assert len(datasets.load_from_disk(str(out))) == 9


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("{}\n")])
def test_a_file_that_is_not_what_was_held_out(held, spoil):
    space, data = held
    path = validation.files_of(data)[0].path
    spoil(path)
    with pytest.raises(OmrError, match=rf"{path}: is not what make data held out; make data FORCE=1"):
        prepared_data.make(space, data, workers=1)
    assert not list((space.root / "cache/data").glob("*/manifest.json"))


def test_the_engines_file_has_the_rows_of_its_data(held, monkeypatch):
    space, data = held
    request = SimpleNamespace(run=RUN, modes=None, job_nodes=64, job_gpus=8, overrides=None)
    file = engine_file.of(request, space, base=space.root, data=data)
    sets = yaml.safe_load(file.text)["data"]["validation"]
    assert [one["data_path"] for one in sets] == [str(f.path) for f in validation.files_of(data)]


# --- the driver ----------------------------------------------------------------------


def test_hydras_words_for_the_prepared_form(tmp_path):
    path = tmp_path / "nemo_rl.yaml"
    path.write_text(config.text(written(RUN, held_out=FILES), RUN))
    train, sets = driver.prepared_words(Path("/it's/3f"), path)
    assert train == "++data.train.data_path='/it\\'s/3f'"
    assert sets.startswith("++data.validation=[{data_path:'/it\\'s/3f/validation-cot',dataset_name:Resp")
    assert sets.count("{") == 2 and "'/it\\'s/3f/validation-genselect'" in sets
    path.write_text(config.text(written(RUN), RUN))
    assert driver.prepared_words(Path("/p"), path) == ["++data.train.data_path='/p'"]


class Sft:
    """NeMo-RL's module: a validation whose loss of a row is its number, over rows with so many tokens."""

    StatefulDataLoader = staticmethod(lambda rows, **words: [[rows[n] for n in range(len(rows))]])
    rl_collate_fn = None

    @staticmethod
    def validate(policy, loader, *given, **named):
        if loader is None:
            return {}, {}
        total = tokens = 0.0
        for batch in loader:
            for weight, (message,) in zip(batch["loss_multiplier"], batch["message_log"], strict=True):
                message["token_loss_mask"] = SimpleNamespace(sum=lambda n=message["tokens"]: n)
                total += weight * message["tokens"] * message["loss"]
                tokens += weight * message["tokens"]
        return {"val_loss": total / tokens if tokens else 0.0}, {"total_validation_time": 2.0}


def batch_of(rows):
    return {
        "loss_multiplier": [row[2] for row in rows],
        "message_log": [[{"loss": row[0], "tokens": row[1]}] for row in rows],
    }


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (
            {"cot": [(1.0, 10, 1.0), (2.0, 30, 1.0)], "tir": [(4.0, 40, 1.0)]},
            {"val_loss": 2.875, "val_loss_cot": 1.75, "val_loss_tir": 4.0},
        ),
        (  # a row that is too long has the weight 0, and a split of such rows no loss
            {"cot": [(1.0, 10, 1.0), (9.0, 90, 0.0)], "tir": [(4.0, 40, 0.0)]},
            {"val_loss": 1.0, "val_loss_cot": 1.0},
        ),
        ({"cot": [(1.0, 10, 0.0)]}, {}),
    ],
)
def test_the_loss_of_each_split_and_of_all_tokens(rows, found):
    sft = SimpleNamespace(**{name: getattr(Sft, name) for name in dir(Sft) if name[0] != "_"})
    sft.StatefulDataLoader = lambda part, **words: [batch_of([part[n] for n in range(len(part))])]
    names = [f"3f-validation-{split}" for split, listed in rows.items() for _ in listed]
    listed = [row for split in rows.values() for row in split]

    class Rows(list):
        def __init__(self):
            super().__init__(listed)
            self.dataset = {"task_name": names}

    settings = {"sft": {"val_global_batch_size": 8}, "data": {"num_workers": 1}}
    made = by_split.BySplit(sft)
    built = (None, None, None, SimpleNamespace(dataset=Rows()), None, None, None, None, settings)
    assert made.set_up(built) is built
    losses, seconds = made.validate(None, built[3], step=4)
    assert losses == pytest.approx(found) and list(losses) == list(found)
    assert seconds == {"total_validation_time": 2.0 * len(rows)} and made.longest > 0


def test_without_held_out_rows_it_is_nemo_rl_s_own():
    made = by_split.BySplit(Sft)
    built = (None,) * 9
    assert made.set_up(built) is built
    assert made.validate("policy", None) == ({}, {}) and made.longest == 0
