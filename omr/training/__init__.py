"""Training a run: what is proved before it, and the two engines."""
