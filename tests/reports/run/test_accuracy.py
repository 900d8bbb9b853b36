"""Sections of the page about evaluations."""

import dataclasses

from omr.reports.run import accuracy
from tests.evaluation.kit import found


def test_each_mode_has_its_section_with_the_published_beside():
    both = {"cot": found(), "genselect": found(mode="genselect")}
    cot, genselect = accuracy.sections(both, "7b", "MODEL=7b")
    assert (cot.title, genselect.title) == ("Accuracy, cot", "Accuracy, genselect")
    assert (
        "comp-math-24-25, 64 samples a problem, temperature 0.6, top_p 0.95, up to 32,768 tokens" in cot.text
    )
    assert cot.rows[0][:2] == ["after", "aime24"] and "74.8" in cot.rows[1]
    bars, curves = cot.figures
    assert "published" in {key.text for key in bars.keys} and "error" in bars.caption
    assert "aime25" in {tick.text for tick in bars.panels[0].x}
    ours, published = (
        next(m for m in bars.panels[0].marks if m.text.startswith(w)) for w in ("after", "publ")
    )
    assert ours.low > ours.y > ours.high and published.low is None
    assert ours.shape != published.shape and ours.x != published.x
    assert "after, aime24" in {key.text for key in curves.keys} and "most frequent answer" in curves.caption
    assert "published" not in {key.text for key in genselect.figures[0].keys}  # its pass@1 is not published


def test_one_sample_has_no_curve():
    one = found()
    drawn = dataclasses.replace(one.inputs.sampling, samples=1)
    one = dataclasses.replace(one, inputs=dataclasses.replace(one.inputs, sampling=drawn))
    (section,) = accuracy.sections({"cot": one}, "7b", "MODEL=7b")
    assert len(section.figures) == 1


def test_nothing_was_evaluated():
    (section,) = accuracy.sections({}, "7b", "MODEL=7b")
    assert section.text == "Not evaluated yet: make eval MODEL=7b."
    assert accuracy.sentence({}) == ""


def test_the_sentence_says_before_where_it_was_asked():
    one = found()
    both = dataclasses.replace(one, models={"before": one.models["after"], **one.models})
    assert accuracy.sentence({"cot": both}) == " Accuracy on 4 problems: 0.750 before, 0.750 after."
