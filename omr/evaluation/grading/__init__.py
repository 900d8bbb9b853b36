"""Whether an answer is right: rules.py judges, exact.py compares values, in processes of their own.

The others call `verdicts.Verdicts`, which keeps what was graded, and `rules.boxed` and `rules.identity`.
"""
