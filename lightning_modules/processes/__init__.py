"""The processes of a run: devices, launchers, signals, and what libraries print."""
