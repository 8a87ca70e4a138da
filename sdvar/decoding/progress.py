"""How far each image of a decode is."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ModelProgress:
    """How far one model is with one image.

    Attributes:
        cached: scales in its cache, all computed from committed inputs unless `Stepper.truncate` is still to come.
        null_cached: those of them that the null branch of guidance has too.
        calls: passes so far.
        tokens: positions in them.
    """

    cached: int = 0
    null_cached: int = 0
    calls: int = 0
    tokens: int = 0


@dataclass
class Progress:
    """How far one image is.

    Attributes:
        committed: scales committed.
        draft, target: how far the models are.
        gamma: the schedule's number for the image's next round.
        picks_end: the scale before which the target's picks of the last round end, where they serve as the next draft.
    """

    committed: int = 0
    draft: ModelProgress = field(default_factory=ModelProgress)
    target: ModelProgress = field(default_factory=ModelProgress)
    gamma: int = 0
    picks_end: int = 0

    def of(self, which: str) -> ModelProgress:
        """Of the model "draft" or "target"."""
        return self.draft if which == "draft" else self.target
