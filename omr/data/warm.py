"""What the crew's processes share: imported once, by the process that forks them (process_pool.py)."""

import gc
import signal

from omr.data import process_pool

signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run says that it was interrupted
process_pool.lean()

import pyarrow.compute  # noqa: E402
import pyarrow.parquet  # noqa: E402, F401

from omr.data import json_lines  # noqa: E402, F401

gc.freeze()  # a collection would touch, and so copy, what the forked share
gc.enable()
