"""Slurm, asked before anything is queued: would it take these jobs, start them, and let them get anywhere?

`checks.checks` is every row: partitions, nodes and times here, account and limits in `rights`; `placement`
says what the jobs would be, and `canary` sends one to look at a compute node (ASK=1).
"""
