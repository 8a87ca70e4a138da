"""The search for the fastest way to decode with a pair: costs of passes, agreement, expected times."""
