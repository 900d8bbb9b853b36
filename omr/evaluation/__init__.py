"""Held-out problems answered and graded, before a run and after it."""
