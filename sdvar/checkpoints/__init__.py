"""Weights on disk or on the hub -> models. The configuration is read off the tensors; every loading error is made here.

A source goes through `hub` (name -> file), `checksums`, `files` (file -> tensors, mapped), `wrapped` (which state dict
of a training checkpoint), `configuration` (tensors -> arguments of a model) and `filling` (a model built without memory
is given the tensors one by one). `python -m sdvar.checkpoints` inspects and converts files.
"""

from sdvar.checkpoints.checksums import sha256
from sdvar.checkpoints.errors import CheckpointError
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
