"""Names of the ImageNet classes, which the released models were trained on."""

from __future__ import annotations

import difflib

IMAGENET_CLASSES = 1000


def imagenet_names() -> list[str]:
    """The names of the 1,000 classes by label, as torchvision has them."""
    from torchvision.models import ResNet50_Weights  # takes seconds, and only few runs name classes

    return list(ResNet50_Weights.DEFAULT.meta["categories"])


def imagenet_label(name: str) -> int:
    """The label of a class given by its name; upper and lower case do not matter.

    Raises:
        ValueError: no class or more than one has that name.
    """
    names = imagenet_names()
    wanted = " ".join(name.split()).lower()
    found = [label for label, candidate in enumerate(names) if candidate.lower() == wanted]
    if len(found) == 1:
        return found[0]
    if found:
        classes = " and ".join(f"{label} ({names[label]})" for label in found)
        raise ValueError(f"{name!r} names the classes {classes}; give the number")
    near = difflib.get_close_matches(wanted, [candidate.lower() for candidate in names], n=3)
    hint = f" (near: {', '.join(near)})" if near else ""
    raise ValueError(f"{name!r} is not an ImageNet class{hint}")
