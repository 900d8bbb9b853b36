"""Numbers of an evaluation, against a table by hand and against NeMo-Skills' own classes."""

import importlib.util
import math
import random
from pathlib import Path

import pytest

from omr.evaluation.grading.rules import Outcome, Verdict
from omr.evaluation.metrics import Graded, majority, score, standard_errors
from omr.evaluation.samples import Kept


def graded(text, right):
    """`42!` is cut at the limit; `-` is no answer."""
    given = None if text.startswith("-") else text.rstrip("!")
    return Graded(given, right, right, False, not text.endswith("!"), 10 * len(text), 1)


# Four problems, four samples each, and what comes of them by hand.
TABLE = [
    [("7", 1), ("7", 1), ("8", 0), ("7", 1)],
    [("3", 0), ("4", 1), ("4", 1), ("3", 0)],
    [("-", 0), ("-!", 0), ("5", 1), ("-", 0)],
    [("1", 0), ("2", 0), ("1", 0), ("9!", 1)],
]
ROWS = [[graded(text, bool(right)) for text, right in row] for row in TABLE]


def test_the_table_by_hand():
    found = score(ROWS)
    assert (found.problems, found.samples) == (4, 4)
    assert found.pass1 == (3 + 2 + 1 + 1) / 16
    # Right in runs 1 to 4: {7}, {7, 4}, {4, 5}, {7, 9}.
    runs = [1 / 4, 2 / 4, 2 / 4, 2 / 4]
    assert found.error == pytest.approx(math.sqrt(sum((r - 7 / 16) ** 2 for r in runs) / 3) / 2)
    assert found.pass_k == 1.0
    # 7 of three; 3 and 4 twice each; 5 alone; 1 twice.
    assert found.majority == (1 + 0.5 + 1 + 0) / 4
    assert found.majority_by_k == (
        pytest.approx(1 / 4),
        pytest.approx((1 + 0.5 + 0 + 0) / 4),
        pytest.approx((1 + 1 + 1 + 0) / 4),
        found.majority,
    )
    assert found.no_answer == 3 / 16
    assert found.cut == 2 / 16
    assert found.tokens == pytest.approx(10 * (16 + 2) / 16)
    assert found.executions == 1


def test_one_sample_has_no_error():
    found = score([[graded("7", True)], [graded("8", False)]])
    assert (found.pass1, found.error, found.majority_by_k) == (0.5, None, (0.5,))
    assert standard_errors(found, 0.5) is None


def test_a_problem_with_fewer_samples_is_refused():
    with pytest.raises(ValueError, match="another number of samples"):
        score([ROWS[0], ROWS[1][:3]])


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([], 0.0),
        ([("-", 0)], 0.0),
        ([("-", 0), ("-", 0), ("7", 1)], 1.0),
        ([("7", 1), ("8", 0)], 0.5),
        ([("7", 1), ("8", 0), ("9", 0)], 1 / 3),
        ([("7", 1), ("8", 0), ("8", 0)], 0.0),
        # One answer with two verdicts, as a grader that ran out of time gives: two answers.
        ([("7", 1), ("7", 0), ("8", 0), ("8", 0)], 0.0),
    ],
)
def test_majority(samples, expected):
    assert majority([graded(text, bool(right)) for text, right in samples]) == pytest.approx(expected)


def test_how_far_from_the_published():
    found = score(ROWS)
    assert standard_errors(found, found.pass1) == 0
    assert standard_errors(found, 0.25) == pytest.approx((7 / 16 - 0.25) / (math.sqrt(2) * found.error))


def test_a_verdict_counts_as_the_published_one_has_it():
    kept = Kept("7", True, 5, 2)
    assert Graded.of(kept, Verdict(Outcome.RIGHT, Outcome.WRONG)) == Graded(
        "7", True, False, False, True, 5, 2
    )
    assert Graded.of(kept, Verdict(Outcome.TIMEOUT, Outcome.WRONG)).timeout


@pytest.fixture
def their_metrics():
    """NeMo-Skills' class of metrics, for answers with one verdict."""
    package = importlib.util.find_spec("nemo_skills")
    if package is None:
        pytest.skip("nemo_skills is not installed; run make nemo")
    # By its file: the package around it needs a whole cluster's libraries.
    file = Path(package.submodule_search_locations[0], "evaluation", "metrics", "base.py")
    spec = importlib.util.spec_from_file_location("their_metrics", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    class Metrics(module.BaseMetrics):
        def _get_score_dict(self, prediction):
            return {"correct": prediction["correct"]}

        def update(self, predictions):
            super().update(predictions)
            answers = [prediction["predicted_answer"] for prediction in predictions]
            self._compute_pass_at_k(predictions=predictions, predicted_answers=answers)
            self._compute_majority_at_k(predictions=predictions, predicted_answers=answers)

    return Metrics


@pytest.mark.nemo
def test_the_numbers_are_those_of_nemo_skills(their_metrics):
    rng = random.Random(5)
    for _ in range(20):
        k, theirs, rows = rng.randint(2, 9), their_metrics(), []
        for _ in range(rng.randint(1, 12)):
            answers = [rng.choice(["1", "2", "3", None]) for _ in range(k)]
            row = [
                Graded(answer, answer == "2", False, False, True, rng.randint(1, 90)) for answer in answers
            ]
            theirs.update(
                [
                    {"predicted_answer": one.given, "correct": one.right, "num_generated_tokens": one.tokens}
                    for one in row
                ]
            )
            rows.append(row)
        found, told = score(rows), theirs.get_metrics()
        average = told[f"pass@1[avg-of-{k}]"]
        assert 100 * found.pass1 == pytest.approx(average["correct"])
        assert found.error == pytest.approx(average["correct_statistics"]["std_err_across_runs"])
        assert 100 * found.no_answer == pytest.approx(average["no_answer"])
        assert 100 * found.pass_k == pytest.approx(told[f"pass@{k}"]["correct"])
        for n in range(2, k + 1):
            assert 100 * found.majority_by_k[n - 1] == pytest.approx(told[f"majority@{n}"]["correct"])
        assert abs(found.tokens - average["avg_tokens"]) < 1
