"""Training a run.

`stage` is `make train` on this machine, `preflight` what is proved before any training; `nemo_rl` and `trl`
are the two engines.
"""
