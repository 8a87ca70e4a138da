"""What the libraries say that does not concern the user."""

from __future__ import annotations

import logging
import warnings


def quieten_libraries() -> None:
    """Leaves the warnings that concern the user. Lightning sets its level on import: this comes after."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*(does not have many workers|Checkpoint directory|isinstance).*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*srun.*is not used.*")  # a login node, or a step of one task
