"""The program around the models: command lines, signals, log lines, memory, files."""
