"""The report page and the terminal table."""
