"""The recipe for one ordinary machine (MODEL=tiny, DATASET=tiny), made here: nothing is downloaded.

The others call `corpus.write_corpus` (parquet files in the published schema), `corpus.held_out` (problems for
the evaluation), `model.write_base` (the base model) and `tokenizer.tiny_tokenizer`; prompts/ has its prompts.
"""
