"""From weights on disk or on the hub to models. The configuration is read off the tensors.

A source passes through `sources` (what it names), `hub` (name to file), `files`, `folders` and `unpickling` (checked
files to mapped tensors), `state_dicts` (the models in them), `configuration` (tensors to arguments of a model) and
`filling` (a model built without memory takes the tensors one by one). `python -m sdvar.checkpoints` inspects and
converts files.
"""

from sdvar.checkpoints.errors import CheckpointError
from sdvar.checkpoints.filling import DERIVED
from sdvar.checkpoints.loading import BUNDLED, bundled_files, load_pair, load_tokenizer, load_var
from sdvar.checkpoints.reading.files import digest, sha256
from sdvar.checkpoints.reading.hub import RELEASED, local_file

__all__ = [
    "BUNDLED",
    "DERIVED",
    "RELEASED",
    "CheckpointError",
    "bundled_files",
    "digest",
    "load_pair",
    "load_tokenizer",
    "load_var",
    "local_file",
    "sha256",
]
