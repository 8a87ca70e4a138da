"""How the work is shared between draft and target: a strategy per file, and the rounds of the speculative one."""
