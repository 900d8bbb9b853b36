"""What people read: `run_page.write` makes the page of a run, `data_report` measures an SFT file and writes its
page, `doctor.checks` looks at this machine. `pages` draws; the other wings make what is reported."""
