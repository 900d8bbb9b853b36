"""Slurm: its commands, the chain of jobs, submission, a link and its supervision, status."""
