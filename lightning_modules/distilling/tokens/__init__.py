"""Images as tokens on disk: made, written as shards, read again by a training."""
