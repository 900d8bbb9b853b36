"""What is measured, and what is reckoned."""
