"""From weights on disk or on the hub to models. The configuration is read off the tensors.

A source passes through `hub` (name to file), `files` (checked file to mapped tensors), `state_dicts` (which part of a
training checkpoint), `configuration` (tensors to arguments of a model) and `filling` (a model built without memory
takes the tensors one by one). `python -m sdvar.checkpoints` inspects and converts files.
"""

from sdvar.checkpoints.errors import CheckpointError
from sdvar.checkpoints.files import sha256
from sdvar.checkpoints.filling import DERIVED
from sdvar.checkpoints.hub import RELEASED, local_file
from sdvar.checkpoints.loading import BUNDLED, bundled_files, load_pair, load_tokenizer, load_var

__all__ = [
    "BUNDLED",
    "DERIVED",
    "RELEASED",
    "CheckpointError",
    "bundled_files",
    "load_pair",
    "load_tokenizer",
    "load_var",
    "local_file",
    "sha256",
]
