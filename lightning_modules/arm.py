"""An arm of a run: one way of decoding its images."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

import sdvar
from lightning_modules import pair_source

BASELINE = "baseline"  # the arm that the others are compared with


@dataclass(frozen=True)
class Arm:
    """One way of decoding the images of a run.

    Args:
        name: names the arm's folder: letters, digits, `_`, `-` and `.`.
        strategy: how its images are decoded.
        reseed: decode with other seeds. Such an arm shows how far two sets of images differ by chance alone.
        draft: checkpoint of a draft of its own in place of the pair's, see `PairFiles`.
        sampling: of its own in place of the run's.

    Raises:
        ValueError: if the name cannot be that of a folder, or the baseline is something else.
    """

    name: str
    strategy: sdvar.Strategy
    reseed: bool = False
    draft: str | None = None
    sampling: sdvar.Sampling | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", self.name):
            raise ValueError(f"strategy: {self.name!r} cannot name an arm; use letters, digits, '_', '-' and '.'")
        own = [name for name in ("reseed", "draft", "sampling") if getattr(self, name)]
        if self.name == BASELINE and (own or self.strategy != sdvar.Baseline()):
            raise ValueError(
                f"strategy: the arm {BASELINE!r} must be sdvar.Baseline() with the run's seeds and sampling, got "
                f"{self.strategy}{' with its own ' + ', '.join(own) if own else ''}"
            )

    @property
    def lossless(self) -> bool:
        """Whether its images are distributed as the baseline's."""
        return self.strategy.lossless and self.sampling is None

    @property
    def exact(self) -> bool:
        """Whether its images have the baseline's tokens."""
        return self.strategy.exact and self.sampling is None

    def settings(self) -> str | dict:
        """What its images depend on beside the run's settings, in plain values."""
        text = f"{self.strategy}{', reseeded' if self.reseed else ''}"
        own = {}
        if self.draft:
            own |= {"draft": self.draft, "draft_sha256": pair_source.digest(self.draft)}
        if self.sampling:
            own |= {"sampling": asdict(self.sampling)}
        return {"strategy": text, **own} if own else text
