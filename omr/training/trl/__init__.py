"""The one-box engine (ENGINE=trl): TRL's SFTTrainer on this machine, in one process or in one for each GPU.

`make train` calls `config.engine_config` and `config.write_config` (a frozen run becomes <run>/trl.yaml),
`memory.check` (refuses what cannot fit) and `engine.train` (reads trl.yaml and trains, or goes on).
The way of a row: sft_file (read) -> batches (at which step, grouped how) -> feed (tokens) -> trainer (loss).
Rows that are held out go through `validation` at each save of the schedule.
"""
