"""How the commands read options: jsonargparse, with plain YAML values and errors of one line."""
