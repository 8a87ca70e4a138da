"""Sets of images for the metrics: what they are in memory, and the formats in which they can be given."""
