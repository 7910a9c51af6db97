"""From tables to verdicts: contrasts, estimates, tests, and the exploration around them."""
