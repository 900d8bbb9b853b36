"""What people read, made from what the other wings left.

`run_page.write` makes the page of a run, `data_report.measure` and `write` those of an SFT file, drawn by
`pages`; `doctor.checks` looks at this machine.
"""
