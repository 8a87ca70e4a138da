"""From what a user names to a state dict: files, folders, the hub; nothing in a file is run."""
