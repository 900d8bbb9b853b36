"""What a recipe decides of the rows: `filters` and `formulas`; `local` brings a corpus of one's own files."""
