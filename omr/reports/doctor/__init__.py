"""`make doctor`: what is there, what is missing, and what to type.

`judge.of_machine` looks at the machine in general, `judge.of_request` at a target before it is asked for: a
`request.StageRequest`. The other modules are their rows by subject; each says ok, warn or fix, and the last
two what to type. What a stage itself refuses is asked of the function that refuses it.
"""
