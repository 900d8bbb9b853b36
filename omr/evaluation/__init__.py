"""Held-out problems answered and graded, by the model that a run ended with and by others.

The others call `request.EvalRequest.of` (which models answer which problems, and how), `stage.Evaluator`,
which asks and counts, and `results.read` for what an evaluation found. servers/ answer, modes/ ask, sandbox/
runs code that a model wrote, grading/ judges, metrics.py counts.
"""
