"""`make watch`: runs in the terminal while they go on: jobs, step, loss, rate, time left, events.

`screen.watch_run` and `watch_all` draw what `looks` sees until the runs end or q is typed; `draw` says how,
`follow` reads a run's metrics as they grow, `keys` reads the keyboard.
"""
