"""The published parquet -> the shuffled SFT file of a round.

A shard goes through corpus (which shards), formatting (one shard), rows (kept or not), lengths, prompts,
json_lines, scratch (lines by bucket) and mixing (one file); `stage.make` runs it in process_pool.

Others call `request.request`, `request.finished` and `request.describe`, `stage.make` and `stage.part`;
`prompts.load` and `lengths.Counter` where they need a prompt or a token count.
"""
