"""What a person reads: pages about a run and its data, and the doctor."""
