"""What runs inside a Slurm allocation: a link of a training chain under its supervisor, or a plain stage.

bin/link.py calls `link.run_link`, `stage.check_complete` and `stage.run_stage`; plan and status ask
`deadline.learned_margin` how much of a job's time is left to train in.
"""
