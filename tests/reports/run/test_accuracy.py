"""Sections of the page about evaluations."""

import dataclasses

from omr.reports import eval_section
from tests.evaluation.kit import found


def test_each_mode_has_its_section_with_the_published_beside():
    both = {"cot": found(), "genselect": found(mode="genselect")}
    cot, genselect = eval_section.sections(both, "7b")
    assert (cot.title, genselect.title) == ("Accuracy, cot", "Accuracy, genselect")
    assert (
        "comp-math-24-25, 64 samples a problem, temperature 0.6, top_p 0.95, up to 32,768 tokens" in cot.text
    )
    assert cot.rows[0][:2] == ["after", "aime24"] and "74.8" in cot.rows[1]
    bars, curves = cot.figures
    assert "published" in bars.svg and "aime25" in bars.svg and "error" in bars.caption
    assert "after, aime24" in curves.svg and "most frequent answer" in curves.caption
    assert "published" not in genselect.figures[0].svg  # of genselect no pass@1 is published


def test_one_sample_has_no_curve():
    one = found()
    drawn = dataclasses.replace(one.inputs.sampling, samples=1)
    one = dataclasses.replace(one, inputs=dataclasses.replace(one.inputs, sampling=drawn))
    (section,) = eval_section.sections({"cot": one}, "7b")
    assert len(section.figures) == 1


def test_nothing_was_evaluated():
    (section,) = eval_section.sections({}, "7b")
    assert section.text == "Not evaluated yet: make eval."
    assert eval_section.sentence({}) == ""


def test_the_sentence_says_before_where_it_was_asked():
    one = found()
    both = dataclasses.replace(one, models={"before": one.models["after"], **one.models})
    assert eval_section.sentence({"cot": both}) == " Accuracy on 4 problems: 0.750 before, 0.750 after."
