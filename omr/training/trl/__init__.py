"""The one-box engine, on TRL's SFTTrainer: plan, memory, rows, trainer."""
