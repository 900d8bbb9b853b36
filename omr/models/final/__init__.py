"""final/: the converted steps of a run become one model.

`average.make` does it: `mean` is the arithmetic, `finish` sets what the model has beside its weights, `card`
writes what it says of itself on the hub.
"""
