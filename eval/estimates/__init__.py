"""What decoding takes, by calculation: bytes, the least time on a machine, the cost with an assumed draft."""
