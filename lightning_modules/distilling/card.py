"""What a training leaves: the draft under the released key names, and a card that says what it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save

from sdvar.checkpoints import DERIVED
from sdvar.checkpoints.reading.files import GUIDANCE, HEADS, ROUNDED
from sdvar.guidance import plain
from sdvar.models.transformer import VAR
from sdvar.system.atomic import write_atomically

WEIGHTS, CARD = "draft.safetensors", "draft.json"


def write_draft(folder: Path, student: VAR, card: Mapping[str, Any]) -> None:
    """Write ``draft.safetensors`` and ``draft.json``; the weights come last: with them a training is finished.

    Args:
        folder: where.
        student: the draft.
        card: what the JSON file holds.
    """
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in student.state_dict().items()
        if name == "lvl_1L" or name.rsplit(".", 1)[-1] not in DERIVED
    }
    stated = {"format": "pt", HEADS: str(student.heads), "role": str(card["role"]), "teacher": str(card["teacher"])}
    if student.guidance_inside:
        stated[GUIDANCE] = json.dumps(plain(student.guidance_inside))
    if student.rounded_to:
        stated[ROUNDED] = student.rounded_to
    write_atomically(folder / CARD, (json.dumps(card, indent=2) + "\n").encode())
    write_atomically(folder / WEIGHTS, save(tensors, metadata=stated))
