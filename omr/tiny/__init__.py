"""The tiny corpus, base model and prompts: the recipe for one ordinary machine, made here."""
