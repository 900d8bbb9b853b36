"""Held-out problems answered and graded, by the model that a run started from and by the one it ended with.

The others call `stage.EvalRequest.of` (which models answer which problems), `stage.finished` and
`stage.evaluate`, and `results.read` for what an evaluation found. problems.py reads, answers.py asks,
grading.py judges.
"""
