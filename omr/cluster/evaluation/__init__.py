"""A run's evaluation from the login node: its Slurm jobs, their submission, NeMo-Skills' own launcher.

The others call `jobs.Evaluation` (how a run is evaluated, and its jobs), `checks.problems` before anything is
submitted, and `submission.submit` or `ns.evaluate`, by LAUNCHER.
"""
