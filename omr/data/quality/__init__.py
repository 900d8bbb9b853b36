"""What may be wrong with rows of a corpus: pure functions, one subject each, and lists of rows.

`text` makes words, n-grams and a signature of a solution; `groups` compares rows of one problem; `overlap`
looks for a benchmark's problems; `lists` writes and reads which rows were found; `make data DROP=` leaves
them out. omr/reports/quality calls them over a whole corpus, and grades the answers.
"""
