"""The loss on the rows of held-out problems, while a run trains and of the models that it ends with.

`rows.read` proves and tokenises them, `loss.measure` measures a model: the engine before each save of the
schedule. `models.measured` does so of one model after the other, for `make validate`
(omr/training/validate.py).
"""
