"""What decoding took, and what its tokens are: from a run's tables, and from a pass of its target."""
