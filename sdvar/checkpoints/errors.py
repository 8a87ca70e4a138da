"""The one error of loading."""


class CheckpointError(ValueError):
    """A checkpoint cannot be read or does not fit; the message names the file, what is wrong and what to do."""
