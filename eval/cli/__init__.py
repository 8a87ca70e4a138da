"""Command lines: options, arms, launchers, progress."""
