"""The published parquet -> the shuffled SFT file of a round."""
