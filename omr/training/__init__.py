"""Training a run.

`stage` is `make train` on this machine, `preflight` what is proved before any training, `validate` measures
what came out on held-out rows; `nemo_rl` and `trl` are the two engines.
"""
