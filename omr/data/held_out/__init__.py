"""VALIDATION: the problems whose rows are held out of an SFT file, to measure a loss on them.

`choice` has which problems those are, `problem` which problem a row is of, `lines` their rows as files beside
the SFT file, which a training finds by omr/run/validation.py.
"""
