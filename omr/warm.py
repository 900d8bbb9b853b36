"""What the crew's processes share: imported once, by the process that forks them (omr/crew.py)."""

import gc
import signal

from omr import crew

signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run says that it was interrupted
crew.lean()

import pyarrow.compute  # noqa: E402
import pyarrow.parquet  # noqa: E402, F401

from omr import escape  # noqa: E402, F401

gc.freeze()  # a collection would touch, and so copy, what the forked share
gc.enable()
