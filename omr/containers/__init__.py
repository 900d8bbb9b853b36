"""Docker and podman.

`image` builds the two images and has them tested, `run` runs a stage in one (docker/run calls it), `mounts`
says which paths a container sees, on Slurm too; `checks.Check` is a line of the self-test and of the doctor.
"""
