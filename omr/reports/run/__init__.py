"""The page of a run: `page.write` makes it out of sections, of which each other file has one or two.

A section whose sources are not there yet is one sentence about what makes them.
"""
