"""The types that describe a metric: what it needs, how it is computed, and which columns it gives an arm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from lightning_modules.run.finished import FinishedArm

REFERENCE = "reference"  # the real images
Values = dict[str, Any]  # by column key, as in metrics.json
Result = tuple[Values, list[str]]  # what a metric computed, and its warnings


@dataclass(frozen=True)
class Column:
    """One value of an arm in metrics.json, and how tables show it.

    Attributes:
        key: its name in metrics.json.
        description: one phrase for the schema and the report.
        type: JSON type of the value; "number" or "integer" where it is a list of them.
        title: heading in a table; empty for a value that belongs in no table.
        terminal: whether the table that a run prints shows it too.
        decimals: digits after the point in a table.
        scale: factor of the value in a table.
        spread: key of the column to show after a ±.
        better: "higher" or "lower"; None where neither is.
        minimum, maximum: bounds of the value; None without.
        choices: allowed texts; empty for any.
        nullable: whether the value, or an entry of its list, may be null.
        dimensions: 1 for a list, by scale; 2 for lists by round and scale.
        fields: keys of an object whose values the above describes; empty where it is not an object.
        always: whether every arm has it.
        interval: whether an arm may also have KEY_interval, [low, high], which covers the value in 95 % of all runs.
    """

    key: str
    description: str
    type: Literal["number", "integer", "string"] = "number"
    title: str = ""
    terminal: bool = False
    decimals: int = 0
    scale: float = 1
    spread: str | None = None
    better: Literal["higher", "lower"] | None = None
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    nullable: bool = False
    dimensions: int = 0
    fields: tuple[str, ...] = ()
    always: bool = False
    interval: bool = False

    @classmethod
    def share(cls, key: str, description: str, **more: Any) -> Column:
        """A share, from 0 to 1."""
        return cls(key, description, minimum=0, maximum=1, **more)

    @classmethod
    def count(cls, key: str, description: str, **more: Any) -> Column:
        """A whole number, from 0 on."""
        return cls(key, description, "integer", minimum=0, **more)

    @property
    def interval_key(self) -> str:
        """Key of the value's interval."""
        return f"{self.key}_interval"

    @property
    def is_share(self) -> bool:
        """Whether the value is a share, from 0 to 1."""
        return (self.minimum, self.maximum) == (0, 1)

    def text(self, values: Mapping[str, Any], missing: str = "-", spread: bool = False) -> str:
        """The value as a table shows it.

        Args:
            values: of an arm.
            missing: what to show where there is no value.
            spread: whether to add the interval, or else the spread, if there is one.
        """
        if values.get(self.key) is None:
            return missing
        text = self.number(values[self.key])
        if spread and self.interval_key in values:
            return f"{text} ({self.range(values[self.interval_key])})"
        return f"{text} ± {self.number(values[self.spread])}" if spread and self.spread in values else text

    def number(self, value: float) -> str:
        """A value as a table shows it."""
        # + 0.0: no minus before a zero
        return f"{round(self.scale * value, self.decimals) + 0.0:,.{self.decimals}f}"

    def range(self, interval: Sequence[float]) -> str:
        """An interval as a table shows it."""
        return " … ".join(map(self.number, interval))


@dataclass(frozen=True)
class Metric:
    """A metric, or a group of statistics that are computed together.

    Attributes:
        name: as `--metrics` takes it.
        title: heading of its columns as a group.
        help: what `--metrics` says about it, in a few words.
        needs: what `compute` is called with:
            "tables": an `ArmTables`, what the decoding of one arm wrote; always computed, never named in `--metrics`;
            "features": the `Features` of the arm's images, and a mapping with those of the "baseline" and of the
            "reference", as far as there are; a reference may have statistics alone, without images;
            "pairs": an `ImagePairs`, the arm's images beside the baseline's of the same seeds;
            "perceptual": the same, and the weights file of the network below LPIPS;
            "scores": the `sdvar.audit.Scores` of the arm's tokens, where the models are there to make them.
        compute: returns the values by column key, and warnings. A value that cannot be computed is left out, with a
            warning.
        columns: every key that `compute` may return, in the order of the tables.
        default: whether it is computed where no `--metrics` is given.
    """

    name: str
    title: str
    help: str
    needs: Literal["tables", "features", "pairs", "perceptual", "scores"]
    compute: Callable[..., Result]
    columns: tuple[Column, ...]
    default: bool = True


@dataclass(frozen=True)
class ArmTables:
    """What the decoding of one arm left in its folder, without its images.

    Attributes:
        arm: how it decoded.
        rows: of its manifest.csv.
        batches: rows of its batches.csv.
        length: tokens per image, L.
        batch_size: images decoded together.
        precision: of the models.
    """

    arm: FinishedArm
    rows: Sequence[Mapping[str, str]]
    batches: Sequence[Mapping[str, str]] = field(default=())
    length: int = 0
    batch_size: int = 1
    precision: str = "32-true"
