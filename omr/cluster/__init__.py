"""Slurm from the login node: submit, plan, watch, cancel. What runs inside a job is in `allocation`.

The scripts of bin/ call `train.train`, `train.show` and `train.clear`, `pipeline.make`, `plan.numbers`,
`status.of` and `stages.submit_image_import`, and of `evaluation` what its own lines name; docker/run calls
`stages` for any other stage. `slurm` alone runs Slurm's commands. `jobs` describes a job, `chain` those of a
run, and `submit` hands them to Slurm.
"""
