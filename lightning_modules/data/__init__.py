"""Which images a run makes, and the data that trained the bundled weights."""
