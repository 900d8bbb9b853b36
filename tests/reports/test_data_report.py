"""Token lengths of an SFT file, against counts made one by one."""

import json

import numpy as np
import pytest

from omr import manifest
from omr.data import lengths, statistics
from omr.errors import OmrError
from omr.files import sha256
from omr.reports import data_report
from omr.tiny.tokenizer import tiny_tokenizer

LONG = "1+1=2. " * 60


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An SFT file of 300 rows, 3 of them long, 2 twice; its manifest, a tokenizer, the true counts."""
    folder = tmp_path_factory.mktemp("figures")
    rows = [
        {
            "input": f"What is {n}+1?\n",
            "output": LONG if n % 100 == 7 else f"{n}+1={n + 1}.",
            "inference_mode": mode,
        }
        for n in range(298)
        for mode in [("cot", "tir")[n % 2]]
    ]
    rows += [rows[0], rows[1]]
    path = folder / "tiny-round1.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept = {mode: {"kept": sum(row["inference_mode"] == mode for row in rows)} for mode in ("cot", "tir")}
    facts = {"sha256": sha256(path), "size": path.stat().st_size, "rows": len(rows), "splits": kept}
    manifest.write(path, {}, **facts)
    engine = folder / "tokenizer.json"
    tokenizer = tiny_tokenizer()
    lengths.export(tokenizer, engine)
    count = lambda text: len(tokenizer.encode(text, add_special_tokens=False))  # noqa: E731
    true = [count(row["input"]) + count(row["output"]) for row in rows]
    return path, manifest.read(path), engine, rows, np.array(true)


def measure(made, **words):
    path, origin, engine, *_ = made
    return data_report.measure(
        path, origin, engine, **{"stats": "full", "workers": 2, "longest": 100, **words}
    )


@pytest.mark.parametrize("piece", [1 << 20, 997, pytest.param(50, marks=pytest.mark.slow)])
def test_every_row_is_counted_once_however_the_file_is_cut(made, monkeypatch, piece):
    path, _, engine, rows, true = made
    monkeypatch.setattr(data_report, "PIECE", piece)
    parts = [data_report.count(path, engine, 1.0, *place) for place in data_report.pieces(path)]
    assert np.concatenate([part.tokens for part in parts]).tolist() == true.tolist()
    assert [split for part in parts for split in part.splits] == [row["inference_mode"] for row in rows]


def test_the_figures(made):
    *_, rows, true = made
    found = measure(made)
    tir = np.array([row["inference_mode"] == "tir" for row in rows])
    assert found.splits["tir"].tokens == true[tir].sum()
    assert found.splits["tir"].too_long == (true[tir] > 100).sum() == 3
    assert found.splits["cot"].percentiles["100"] == true[~tir].max()
    assert sum(found.splits["cot"].histogram) == (~tir).sum()
    assert (found.rows, found.duplicates) == (300, 2)
    assert found.splits["cot"].margin == 0
    said = "\n".join(data_report.meaning(found, 64, 100))
    assert f"300 rows, {true.sum():,} tokens, 2 duplicates" in said
    assert "an epoch is 4.7 steps, 100 steps are 21.33 epochs" in said


def test_a_sample_says_how_sure_it_is(made, monkeypatch):
    *_, true = made
    monkeypatch.setattr(data_report, "SAMPLE", 150)
    found = measure(made, stats="sample")
    assert found == measure(made, stats="sample")  # chosen by content, not by luck
    parts = found.splits.values()
    assert 100 < sum(part.counted for part in parts) < 200
    assert found.rows == 300 and found.duplicates == 2
    total, margin = sum(p.tokens for p in parts), sum(p.margin**2 for p in parts) ** 0.5
    assert margin > 0 and abs(total - true.sum()) < 2 * margin
    page = data_report.section(found)
    assert "95% interval" in page.text and "±" in page.rows[0][2]


def test_figures_are_kept_for_these_bytes_alone(made):
    path, origin, *_ = made
    statistics.write(path, measure(made))
    assert statistics.read(path) == measure(made)
    assert data_report.cached(path, origin, "full", 100)
    assert data_report.cached(path, origin, "sample", 100)  # more exact than asked for
    assert data_report.cached(path, origin, "full", 200) is None
    assert data_report.cached(path, {**origin, "sha256": "other"}, "full", 100) is None


def test_another_file_than_its_manifest_says(made):
    path, origin, engine, *_ = made
    with pytest.raises(OmrError, match="has 300 rows, its manifest says 301"):
        measure((path, {**origin, "rows": 301}, engine))
