"""Names and WordNet ids of the ImageNet classes, which the released models were trained on."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Container, Sequence
from importlib import resources

IMAGENET_CLASSES = 1000

# "n01440764", or a line such as "n01440764 tench, Tinca tinca"
WNID = re.compile(r"\s*([nN]\d{8})(?:[\s,:]+\S.*|\s*)")

# Two classes of ImageNet have each of these names. torchvision renames one of the two, Keras and most lists neither.
SHARED = {"crane": (134, 517), "maillot": (638, 639)}


@functools.cache
def imagenet_names() -> list[str]:
    """The names of the 1,000 classes by label, as torchvision has them."""
    from torchvision.models import ResNet50_Weights  # takes seconds, and only few runs name classes

    return list(ResNet50_Weights.DEFAULT.meta["categories"])


@functools.cache
def imagenet_wnids() -> dict[str, int]:
    """The label of each WordNet id. The labels are the ids in ascending order.

    The ids are facts about ImageNet. The file was made from a list in the package timm (1.0.31):
    ``unzip -p timm-*.whl timm/data/_info/imagenet_synsets.txt``.
    """
    text = resources.files(__package__).joinpath("imagenet_wnids.txt").read_text(encoding="ascii")
    return {wnid: label for label, wnid in enumerate(text.split())}


def imagenet_label(name: str, beside: Container[str] = ()) -> int:
    """The label of a class given by its name or its WordNet id.

    Upper and lower case matter only where they tell two classes apart (Cardigan, cardigan). An underscore is a blank.
    What follows a WordNet id is not read.

    Args:
        name: such as ``golden retriever``, ``golden_retriever`` or ``n02099601``.
        beside: the names of the same list in the form of `plain`. One that has ``crane bird`` uses torchvision's names,
            so that its ``crane`` is the machine.

    Raises:
        ValueError: no class or more than one has that name.
    """
    if found := WNID.fullmatch(name):
        label = imagenet_wnids().get(found[1].lower())
        if label is None:
            raise ValueError(f"{short(found[1])} is not the WordNet id of one of ImageNet's 1,000 classes")
        return label
    names, wanted = imagenet_names(), plain(name)
    shared = SHARED.get(wanted, ())
    if shared and not any(plain(names[label]) in beside for label in shared if plain(names[label]) != wanted):
        raise _ambiguous(name, shared)
    labels = _by_form(_spaced).get(_spaced(name)) or _by_form(plain).get(wanted, [])
    if len(labels) == 1:
        return labels[0]
    if labels:
        raise _ambiguous(name, labels)
    near = difflib.get_close_matches(wanted[:100], [plain(candidate) for candidate in names], n=3)
    hint = f" (near: {', '.join(near)})" if near else ""
    raise ValueError(f"{short(name)} is not an ImageNet class{hint}")


def plain(name: str) -> str:
    """A name in the form in which two spellings of it are the same."""
    return _spaced(name).lower()


@functools.cache
def _by_form(form: Callable[[str], str]) -> dict[str, list[int]]:
    """The labels of each name in a form."""
    labels: dict[str, list[int]] = {}
    for label, name in enumerate(imagenet_names()):
        labels.setdefault(form(name), []).append(label)
    return labels


def short(value: object) -> str:
    """A value as an error shows it: a list of a thousand names is cut."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _spaced(name: str) -> str:
    return " ".join(name.replace("_", " ").split())


def _ambiguous(name: str, labels: Sequence[int]) -> ValueError:
    wnids = list(imagenet_wnids())
    classes = " and ".join(f"{label} ({imagenet_names()[label]}, {wnids[label]})" for label in labels)
    return ValueError(f"{short(name)} names the classes {classes}; give the number")
