"""How a problem becomes an answer: cot.py asks once, tir.py runs what code comes, genselect.py lets choose.

The others call `choose.mode_of`, which gives a base.Mode. prompts.py has the texts that models are asked
with.
"""
