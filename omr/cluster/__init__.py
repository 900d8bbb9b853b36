"""Slurm, as a user on the login node meets it: submit, plan, watch, cancel. What runs in a job is `allocation`.

The scripts of bin/ call `train.train`, `train.show` and `train.clear`, `pipeline.make`, `stages.submit_stage`
(docker/run) and `stages.submit_image_import`, `plan.numbers`, `status.of`; `slurm` is the only module that calls
Slurm's commands. A job is described in `jobs`, a run's jobs in `chain`, and `submit` hands them to Slurm.
"""
