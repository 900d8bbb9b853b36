"""The loss on the rows of held-out problems, while a run trains and of the models that it ends with.

`rows.read` proves and tokenises them, `loss.measure` measures a model; the engine does so before each save of
the schedule, `make validate` (omr/training/validate.py) of final/ and of each part that it is the mean of.
"""
