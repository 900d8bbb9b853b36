"""A run's folder on disk, whichever engine trains it and wherever.

`frozen` has the request that a run began with (run.json), `checkpoints` what is saved and whether it is
whole, `chain_state` what the jobs of a chain know of each other, `events` its log for people, `lease` who may
write, `metrics` the numbers of each step, `validation` the rows that are held out of its data, `stopping` how
an engine is asked to save and stop, `prune` what may go.

Standard library alone: an engine imports checkpoints and lease in an environment of its own.
"""
