"""`torch.load` that runs nothing from a file, and yet reads what training scripts save beside the weights.

A class is never called. In the place of a harmless one, such as NumPy's scalars, `argparse.Namespace` or a path, stands
an inert record; a file that names any other class is refused before anything of that class exists.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

# Classes of plain values. Which stand-in a class gets follows from what unpickling does with it. People write the
# dictionary with attributes themselves, in modules of any name.
MAPPINGS = re.compile(
    r"collections\.(defaultdict|UserDict|ChainMap)|addict(\.addict)?\.Dict|ruamel\.yaml\.comments\.CommentedMap"
    r"|munch(\.\w+)?\.(Default)?Munch|box(\.\w+)?\.(Config|Default)?Box"
    r"|(\w+\.)*(Attr|Attribute|Easy|Dot|Frozen)(Dict|Map)|(\w+\.)*(CfgNode|\w*ConfigDict|HParams)"
)
SEQUENCES = re.compile(r"collections\.(deque|UserList)|builtins\.(list|tuple)|ruamel\.yaml\.comments\.CommentedSeq")
RECORDS = re.compile(
    r"numpy\.(_?core\.multiarray\.(scalar|_reconstruct)|_?core\.numeric\._frombuffer|ndarray|dtype|dtypes\.\w+DType"
    r"|bool_?|str_|bytes_|void|(u?int|float|complex)\w*|u?byte|u?short|u?longlong|(half|single|double)"
    r"|datetime64|timedelta64|random\.(_pickle\.__\w+_ctor|bit_generator\.\w*SeedSequence"
    r"|_\w+\.(MT19937|PCG64|PCG64DXSM|Philox|SFC64)))"
    r"|argparse\.Namespace|types\.SimpleNamespace"
    r"|pathlib\.(_local\.)?(Pure)?(Posix|Windows)?Path"
    r"|datetime\.(datetime|date|time|timedelta|timezone)|decimal\.Decimal|fractions\.Fraction|uuid\.UUID"
    r"|builtins\.(int|float|bool|str|bytes|dict|frozenset|range|slice|object|Ellipsis|NotImplemented)|typing\.(Any|Union|Optional|Dict|List|Tuple)"
    r"|omegaconf\.(dictconfig\.DictConfig|listconfig\.ListConfig|base\.\w*Metadata|nodes\.\w+Node)"
    r"|torch\.torch_version\.TorchVersion"
)
MOST = 500  # different classes in one file


class Saved:
    """An object that a file holds beside the weights: what it was made of, under the name of its class.

    Attributes:
        name: the class, as the file names it.
        values: what its constructor was given, or its attributes.
    """

    name = ""

    def __new__(cls, *arguments: Any) -> Any:
        saved = object.__new__(cls)
        saved.values = arguments
        return saved

    def __init__(self, *arguments: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.values = state


class SavedMapping(Saved):
    """Where a mapping was saved stands a plain one, which the file goes on to fill."""

    def __new__(cls, *arguments: Any) -> Any:
        return OrderedDict()


class SavedSequence(Saved):
    """Where a sequence was saved stands a list."""

    def __new__(cls, *arguments: Any) -> Any:
        return list(arguments[0]) if arguments and isinstance(arguments[0], list | tuple) else []


def load(file: Path, mmap: bool = False, names: list[str] | None = None) -> Any:
    """What a file of `torch.save` holds, on the CPU.

    Args:
        file: zipped or of the older format.
        mmap: map tensors instead of reading them; for a zipped file.
        names: filled with the harmless classes in the file, for `harmless`.

    Raises:
        pickle.UnpicklingError: it names a class that is not known as harmless; nothing of it was run.
        Exception: whatever torch raises for a damaged file.
    """
    names = [] if names is None else names
    while True:
        try:
            with harmless(names), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's, in lines of its own, about what the errors here say
                if file.suffix != ".safetensors":
                    return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
                with file.open("rb") as opened:  # by such a name torch would tell the kind
                    return torch.load(opened, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            name = refused(error)
            if name is None or name in names or stand_in(name) is None or len(names) == MOST:
                raise
            names.append(name)


@contextmanager
def harmless(names: list[str]) -> Iterator[None]:
    """Within the block `torch.load` with ``weights_only=True`` reads objects of these classes as stand-ins."""
    with torch.serialization.safe_globals([(stand_in(name), name) for name in names]):
        yield


def stand_in(name: str) -> Any:
    """What stands for an object of the class of that name; None for a class that may do harm."""
    for pattern, base in ((MAPPINGS, SavedMapping), (SEQUENCES, SavedSequence), (RECORDS, Saved)):
        if pattern.fullmatch(name):
            return type(name.rpartition(".")[2], (base,), {"name": name})
    return None


def refused(error: Exception) -> str | None:
    """The class that torch's error says it refused, if it says so."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    if found is None:
        return None
    return found[1] if "." in found[1] else f"builtins.{found[1]}"  # torch leaves that module out
