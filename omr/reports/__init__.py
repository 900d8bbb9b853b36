"""What people read, made from what the other wings left.

`run_page.write` makes the page of a run, `data_report.measure` and `write` those of an SFT file, drawn by
`pages`; `journey.stations_of` puts the passports of a run's models side by side; `doctor` looks at this
machine, or at a request before it is asked for.
"""
