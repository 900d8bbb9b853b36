"""What the data is like: `make data-report QUALITY=1`.

`measure.measure` goes over the rows that a round keeps, shard by shard (`scan`), and gives a `found.Quality`:
counts by split and finding, with the interval that a sample leaves; `section` is what people read of it.
"""
