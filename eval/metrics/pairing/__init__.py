"""How far an arm's images are from the baseline's of the same label and seed."""
