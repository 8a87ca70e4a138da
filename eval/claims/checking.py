"""The checks of a claim, arm by arm, and what they say."""

from __future__ import annotations

from collections.abc import Iterator

from eval.claims import figures
from eval.claims.decoding import decode, difference, elsewhere, sample
from eval.claims.finished import beside
from eval.claims.models import Decoder
from eval.claims.read import Claim, ClaimedArm
from lightning_modules.run.environment import describe_environment
from lightning_modules.run.finished import FinishedRun

SOURCES = (
    "follow from what the claim says of its images",
    "from the run's tables",
    "are only compared with metrics.json",
)
UNCHECKED = "are not checked"


class Check:
    """What has been checked so far.

    Args:
        claim: to check.
        run: that it was made of; None if it is not here.
        images: of each arm to decode again at most.
        seed: chooses them.
        batch_size: images decoded together.

    Attributes:
        failed: whether something is not as claimed.
    """

    def __init__(self, claim: Claim, run: FinishedRun | None, images: int, seed: int, batch_size: int) -> None:
        self.claim, self.run, self.batch_size = claim, run, batch_size
        self.places = sample(len(claim.index), images, seed)
        self.failed = False
        self._elsewhere: list[str] = []

    def title(self) -> str:
        """What is checked, and against what."""
        claim = self.claim
        where = f"the run in {self.run.folder.path}" if self.run else "the claim alone"
        return (
            f"{claim.file}: {len(claim.index):,} images of each of {len(claim.arms)} arms; {len(self.places)} of each "
            f"are decoded again and compared with {where}"
        )

    def arm(self, arm: ClaimedArm, decoder: Decoder) -> str:
        """Decodes some of an arm's images again; returns the outcome in words."""
        records, wrong = beside(self.run, self.claim, arm, self.places) if self.run else ({}, [])
        made = decode(self.claim, arm, decoder, self.places, self.batch_size)
        said = [difference(self.claim, arm, image, records.get(image.place)) for image in made]
        differing = [line for line in said if line]
        count = len(self.places)
        if differing:
            device = decoder.pair.device.type
            here = describe_environment(device, self.claim.engine.threads, {})
            self._elsewhere = elsewhere(self.claim, here)
            wrong.insert(0, f"{len(differing)} of {count} images are not reproduced; the first is {differing[0]}")
        else:
            wrong.insert(0, f"reproduced: {count} of {count} images")
        self.failed |= bool(differing) or len(wrong) > 1
        return "\n  ".join([*wrong, *(self._why() if differing else [])])

    def figures(self) -> Iterator[str]:
        """Checks the figures; yields the outcome, a line each."""
        sources = [(figures.from_claim(self.claim), "its own digests and counts give")]
        if self.run:
            tables, metrics = figures.from_run(self.run)
            sources += [(tables, "the run's tables give"), (metrics, "metrics.json has")]
        left = sum(len(arm.figures) for arm in self.claim.arms.values())
        checked: set[figures.Key] = set()
        counts = []
        for values, source in sources:
            wrong, compared = figures.compare(self.claim, values, source)
            counts.append(len(compared - checked))
            checked |= compared
            self.failed |= bool(wrong)
            yield from wrong
        counts += [0] * (len(SOURCES) - len(counts)) + [left - len(checked)]
        parts = zip(counts, (*SOURCES, UNCHECKED))
        yield "figures: " + ", ".join(f"{count} {words}" for count, words in parts if count)

    def _why(self) -> list[str]:
        if not self._elsewhere:
            return []
        return [f"this is another machine than the claim's, which can be why: {', '.join(self._elsewhere)}"]
