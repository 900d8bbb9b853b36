"""Faults on purpose: a seeded campaign against every stage on a real Slurm (`make faults`).

`campaign.py` plans the trials and writes down what came of each. `trial.py` is one of them: a fault in a
workspace of its own, the same command again, and what has to hold then. `undisturbed.py` has the runs that
trials are held against. A family of faults has a file in `families/`.
"""
