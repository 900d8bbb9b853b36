"""What people read, made from what the other wings left.

`run` makes the page of a run, `workspace` that of all there is, `data_report.measure` and `write` those of
an SFT file; `pages` draws them, `commands` says what to type, `browser` looks at them. `journey.stations_of`
puts the passports of a run's models side by side; `doctor` looks at this machine, or at a request before it
is asked for, `watch` at runs while they go on.
"""
