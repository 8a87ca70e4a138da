"""The arms of a run: typed strategies from text and configs, and back."""
