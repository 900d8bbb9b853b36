"""What NeMo-RL would rebuild at every start: written once, read by `datasets` as a folder it saved itself."""

import json
from pathlib import Path

import pytest

from omr import manifest
from omr.errors import OmrError
from omr.files import sha256
from omr.run import validation
from omr.run.frozen import TrainingData
from omr.training.nemo_rl import prepared_data
from omr.workspace import Workspace
from tests.training import kit

ROWS = [
    {"input": f"user {i} é\n", "output": f"answer {i}<|im_end|>\n" + "x" * (i % 50), "problem_type": "p"}
    for i in range(2_357)
]


@pytest.fixture
def workspace(tmp_path):
    data = tmp_path / "data" / "tiny-round1.jsonl"
    data.parent.mkdir()
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS))
    facts = {"sha256": sha256(data), "size": data.stat().st_size, "rows": len(ROWS)}
    manifest.write(data, {}, **facts)
    return Workspace(tmp_path), data


def messages(row):
    return [{"role": "user", "content": row["input"]}, {"role": "assistant", "content": row["output"]}]


@pytest.mark.slow
@pytest.mark.parametrize("shard", [1 << 30, 20_000])
def test_datasets_reads_it_as_its_own(workspace, monkeypatch, shard):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(prepared_data, "SHARD", shard)
    space, data = workspace
    out = prepared_data.make(space, data, workers=2)
    # The words by which NeMo-RL tells such a folder from others.
    with pytest.raises(ValueError, match="load_from_disk"):
        datasets.load_dataset(str(out))
    read = datasets.load_from_disk(str(out))
    assert read.column_names == ["messages"]
    assert list(read["messages"]) == [messages(row) for row in ROWS]
    assert len(list(out.glob("*.arrow"))) == (1 if shard > 1 << 20 else -(-data.stat().st_size // shard))
    assert prepared_data.finished(space, sha256(data), None)


@pytest.mark.parametrize("limit", [1, 999, 1000, 1001, 5000])
def test_limit_takes_the_first_rows(workspace, limit):
    import pyarrow as pa

    space, data = workspace
    out = prepared_data.make(space, data, limit, workers=1)
    with pa.memory_map(str(out / "data-00000-of-00001.arrow")) as source:
        table = pa.ipc.open_stream(source).read_all()
    assert table["messages"].to_pylist() == [messages(row) for row in ROWS[:limit]]
    assert not prepared_data.finished(space, sha256(data), None)


def test_another_file_of_the_same_size_is_another_folder(workspace):
    space, data = workspace
    first = prepared_data.make(space, data, workers=1)
    data.write_bytes(data.read_bytes().replace(b"answer 7<", b"answer 8<"))
    manifest.write(data, {}, sha256=sha256(data), size=data.stat().st_size, rows=len(ROWS))
    assert prepared_data.make(space, data, workers=1) != first


def test_a_file_that_does_not_fit_its_manifest(workspace):
    space, data = workspace
    origin = manifest.read(data)
    manifest.write(data, {}, sha256=origin["sha256"], size=origin["size"], rows=3)
    with pytest.raises(OmrError, match="gave 2,357 rows of 3"):
        prepared_data.make(space, data, workers=1)
    assert not list((space.root / "cache" / "data").glob("[0-9a-f]*"))
    with data.open("a") as handle:
        handle.write("{}\n")
    with pytest.raises(OmrError, match="its manifest says"):
        prepared_data.make(space, data, workers=1)


def test_a_file_whose_content_changed_is_not_prepared(workspace):
    """Same size, same rows, one letter: the engine would train on it for weeks."""
    space, data = workspace
    data.write_bytes(data.read_bytes().replace(b"answer 7<", b"answer 8<"))
    with pytest.raises(OmrError, match="sha256 is not the one in its manifest"):
        prepared_data.make(space, data, workers=1)


@pytest.mark.parametrize("name", ["data-00000-of-00001.arrow", "state.json", "dataset_info.json"])
@pytest.mark.parametrize("mischief", ["gone", "cut off", "a bit turned"])
def test_a_part_that_was_lost_is_made_again(workspace, name, mischief):
    space, data = workspace
    out = prepared_data.make(space, data, workers=1)
    assert prepared_data.finished(space, sha256(data), None)
    part = out / name
    whole = part.read_bytes()
    part.unlink()
    if mischief == "cut off":
        part.write_bytes(whole[:-1])
    elif mischief == "a bit turned":
        part.write_bytes(whole[:9] + bytes([whole[9] ^ 4]) + whole[10:])
    assert not prepared_data.finished(space, sha256(data), None)
    prepared_data.make(space, data, workers=1)
    assert prepared_data.finished(space, sha256(data), None) and part.read_bytes() == whole


@pytest.fixture
def held_out(workspace):
    """The workspace's data with held-out rows of two splits."""
    _, data = workspace
    kit.hold_out(data, cot=ROWS[:1_200], genselect=ROWS[5:6])
    return validation.files_of(data)


@pytest.mark.slow
def test_held_out_rows_are_a_data_set_of_each_split(workspace, held_out):
    datasets = pytest.importorskip("datasets")
    space, data = workspace
    plain = prepared_data.folder(space, sha256(data), None)
    assert prepared_data.make(space, data, limit=10, workers=1) == plain.with_name(f"{plain.name}-10")
    told = prepared_data.environment(space, TrainingData(data, sha256(data), 1, 1, held_out), 10)
    out = Path(told["OMR_VALIDATION"])
    assert told["OMR_DATA"] == f"{plain}-10" and out.parent == plain.parent
    for split, rows in (("cot", ROWS[:1_200]), ("genselect", ROWS[5:6])):
        with pytest.raises(ValueError, match="load_from_disk"):
            datasets.load_dataset(str(out / split))
        read = datasets.load_from_disk(str(out / split))
        assert list(read["messages"]) == [messages(row) for row in rows]
    assert "OMR_VALIDATION" not in prepared_data.environment(space, TrainingData(data, "0", 1, 1), None)


@pytest.mark.parametrize("mischief", ["gone", "cut off"])
def test_a_part_of_the_held_out_rows_that_was_lost_is_made_again(workspace, held_out, mischief):
    space, data = workspace
    prepared_data.make(space, data, workers=1)
    assert prepared_data.finished(space, sha256(data), None, held_out)
    part = next(prepared_data.held_out_folder(space, held_out).glob("genselect/*.arrow"))
    whole = part.read_bytes()
    part.unlink()
    if mischief == "cut off":
        part.write_bytes(whole[:-1])
    assert not prepared_data.finished(space, sha256(data), None, held_out)
    assert prepared_data.finished(space, sha256(data), None)
    prepared_data.make(space, data, workers=1)
    assert prepared_data.finished(space, sha256(data), None, held_out) and part.read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda path: path.unlink(), "cot.jsonl: is gone; make data FORCE=1"),
        (lambda path: path.write_text("{}\n"), "cot.jsonl: has 3 bytes, its manifest says"),
        (
            lambda path: path.write_bytes(path.read_bytes().replace(b" 7<", b" 8<")),
            "cot.jsonl: its sha256 is",
        ),
    ],
)
def test_held_out_rows_that_changed_are_not_prepared(workspace, held_out, change, says):
    space, data = workspace
    change(held_out[0].path)
    with pytest.raises(OmrError, match=says):
        prepared_data.make(space, data, workers=1)
    assert not prepared_data.held_out_folder(space, held_out).exists()
