"""What a draft is for: the scales that it is trained on."""

from __future__ import annotations

from dataclasses import dataclass

DRAFT, COARSE, TAIL = "draft", "coarse", "tail"
ROLES = (DRAFT, COARSE, TAIL)


@dataclass(frozen=True)
class Role:
    """The scales that a draft will decode.

    Args:
        name: "draft", all scales; "coarse", those before ``from_scale``, for speculation; "tail", those from it on, for
            hand-offs and draft tails.
        from_scale: 1 .. K - 1; None for "draft".
        scales: K.

    Raises:
        ValueError: naming the option, what was given and what is allowed.
    """

    name: str
    from_scale: int | None
    scales: int

    def __post_init__(self) -> None:
        if self.name not in ROLES:
            raise ValueError(f"role: expected one of {', '.join(ROLES)}, got {self.name!r}")
        if self.name == DRAFT:
            if self.from_scale is not None:
                raise ValueError(f"from_scale: expected none with role draft, all scales, got {self.from_scale}")
        elif self.from_scale is None or not 1 <= self.from_scale < self.scales:
            raise ValueError(
                f"from_scale: expected an int from 1 to {self.scales - 1} with role {self.name}, for a target of "
                f"{self.scales} scales; got {self.from_scale}"
            )

    @property
    def first(self) -> int:
        """The first scale that is trained."""
        return self.from_scale or 0 if self.name == TAIL else 0

    @property
    def last(self) -> int:
        """The first scale after those that are trained, K if there is none."""
        return self.from_scale or self.scales if self.name == COARSE else self.scales

    def entry(self, number: int) -> int:
        """Where the student takes over in an on-policy batch: where it will for a tail, else each scale in turn."""
        return self.first if self.name == TAIL else 1 + number % max(1, self.last - 1)
