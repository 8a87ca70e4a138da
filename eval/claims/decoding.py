"""Decodes some of a claim's images again and compares them with what it says of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

import sdvar
from eval.claims.digests import SCALE_DIGITS, ImageRecord, first_scale, short_png, short_tokens
from eval.claims.models import Decoder
from eval.claims.read import Claim, ClaimedArm
from lightning_modules.columns import PER_IMAGE
from lightning_modules.run.formats.png import digest, png_bytes
from sdvar.pictures import rounded

DECIDING = ("torch", "torchao", "numpy", "pillow")  # packages that the bits of images depend on


@dataclass(frozen=True)
class Decoded:
    """An image that was decoded again.

    Attributes:
        place: of the image in the claim.
        tokens: int64 (L,).
        pixels: uint8 (H, W, 3).
        counts: in the order of `PER_IMAGE`.
    """

    place: int
    tokens: np.ndarray
    pixels: torch.Tensor
    counts: tuple[int, ...]


def sample(count: int, at_most: int, seed: int) -> list[int]:
    """Places of a random sample of the images, ascending.

    NumPy keeps the numbers of its bit generators for good: everybody draws the same ones by a seed.
    """
    order = np.random.Philox(key=seed).random_raw(count).argsort(kind="stable")
    return sorted(order[:at_most].tolist())


def decode(
    claim: Claim, arm: ClaimedArm, decoder: Decoder, places: Sequence[int], batch_size: int
) -> Iterator[Decoded]:
    """Decodes images of an arm again, so many together."""
    for start in range(0, len(places), batch_size):
        batch = places[start : start + batch_size]
        labels, seeds = ([of[place] for place in batch] for of in (claim.labels, arm.seeds))
        with claim.engine.numerics():
            result = sdvar.decode(decoder.pair, labels, seeds, decoder.strategy, decoder.sampling)
        tokens, pixels = torch.cat(result.tokens, dim=1).cpu().numpy(), rounded(result.images).cpu()
        counts = torch.stack([getattr(result.stats, name) for name in PER_IMAGE], dim=1).tolist()
        for place, *made in zip(batch, tokens, pixels, map(tuple, counts)):
            yield Decoded(place, *made)


def difference(claim: Claim, arm: ClaimedArm, found: Decoded, record: ImageRecord | None) -> str | None:
    """How an image differs from what the claim says of it, in words; None if it does not.

    Args:
        claim, arm: whose image.
        found: the image.
        record: what the run recorded, if it is here.
    """
    place = found.place
    where = f"image {claim.index[place]} (label {claim.labels[place]}, seed {arm.seeds[place]})"
    tokens, png = short_tokens(found.tokens, claim.patch_nums), short_png(digest(png_bytes(found.pixels)))
    kept = len(arm.tokens[place]) == len(tokens)
    scale = first_scale(arm.tokens[place], tokens) if kept else None
    if scale is not None:
        start = scale * SCALE_DIGITS
        claimed, ours = (text[start : start + SCALE_DIGITS] for text in (arm.tokens[place], tokens))
        return f"{where}, scale {scale}{_token(claim, scale, found, record)}: tokens claimed {claimed}…, found {ours}…"
    if arm.png[place] != png:
        said = "its tokens are as claimed, " if kept else ""
        return f"{where}: {said}its PNG is not: claimed {arm.png[place]}…, found {png}…"
    for name, value in zip(PER_IMAGE, found.counts):
        if arm.counts[name][place] != value:
            return f"{where}: the image is as claimed, {name} is not: claimed {arm.counts[name][place]}, found {value}"
    return None


def _token(claim: Claim, scale: int, found: Decoded, record: ImageRecord | None) -> str:
    """The first token of a scale that differs from the run's, where the run has other tokens."""
    if record is None or record.tokens is None:
        return ""
    ends = np.cumsum([side * side for side in claim.patch_nums])
    start, end = int(ends[scale]) - claim.patch_nums[scale] ** 2, int(ends[scale])
    differing = np.flatnonzero(record.tokens[start:end] != found.tokens[start:end])
    if not len(differing):
        return ""
    first = int(differing[0])
    claimed, ours = record.tokens[start + first], found.tokens[start + first]
    return f", token {first} of {end - start} ({claimed} in the run, {ours} now)"


def elsewhere(claim: Claim, here: Mapping[str, object]) -> list[str]:
    """In what this machine differs from the one that decoded, in words."""
    there = claim.environment
    pairs = [(name, there.get(name), here.get(name)) for name in ("device", "processor", "gpu", "threads")]
    versions = [of.get("versions") if isinstance(of.get("versions"), dict) else {} for of in (there, here)]
    pairs += [(name, versions[0].get(name), version) for name, version in versions[1].items() if name in DECIDING]
    return [f"{name} {str(claimed)[:60]!r} there, {ours!r} here" for name, claimed, ours in pairs if claimed != ours]
