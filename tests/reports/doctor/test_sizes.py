"""How much of the disk a request would take."""

from omr.reports.doctor import sizes

from .kit import asked


def parts(request):
    return {name: (size, files) for name, size, files in sizes.of(request).parts}


def test_the_corpus_is_downloaded_formatted_and_mixed(tmp_path):
    found = parts(asked("data", tmp_path, dataset="openmathreasoning"))
    assert round(found["the download"][0] / 1e9, 1) == 49.6 and round(found["the data"][0] / 1e9) == 114
    assert round(found["its scratch"][0] / 1e9) == 34
    (tmp_path / "raw").mkdir()
    for split in ("cot", "tir", "genselect"):
        (tmp_path / "raw" / f"{split}-00000-of-00001.parquet").touch()
    given = parts(asked("data", tmp_path, dataset="openmathreasoning", raw=str(tmp_path / "raw")))
    assert "the download" not in given
    few = parts(asked("data", tmp_path, dataset="openmathreasoning", limit=1000, name="few"))
    assert few["the data"][0] < 1e8 < found["the data"][0]


def test_a_training_takes_its_checkpoints_less_those_that_are_there(tmp_path):
    request = asked("train", tmp_path)
    found = parts(request)
    assert round(found["checkpoints"][0] / 1e9) == 714 and found["checkpoints"][1] > 6 * 1024
    assert round(found["the converted base"][0] / 1e9, 1) == 15.2
    folder = request.workspace.run(request.run)
    for step in (7500, 15000):
        folder.checkpoint(step).mkdir(parents=True)
    assert parts(request)["checkpoints"][0] == found["checkpoints"][0] - 2 * int(7.6e9 * 14)


def test_a_pipeline_takes_the_download_once_and_every_file_of_both_rounds(tmp_path):
    one = parts(asked("data", tmp_path, dataset="openmathreasoning"))
    both = parts(asked("pipeline", tmp_path))
    assert both["the download"] == one["the download"] and both["its scratch"] == one["its scratch"]
    assert both["the data"][0] == 2 * one["the data"][0] and "the base model" in both


def test_what_reads_takes_nothing(tmp_path):
    assert parts(asked("report", tmp_path)) == {} and sizes.of(asked("report", tmp_path)).words() == "little"
    assert sizes.of(asked("demo", tmp_path)).bytes == 10**9
    assert round(parts(asked("average", tmp_path))["the final model"][0] / 1e9, 1) == 15.2
