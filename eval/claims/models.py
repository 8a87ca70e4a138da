"""The models that a claim was made with: found by their digests, loaded, placed. A claim names no file to load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

import sdvar
from eval.claims.read import Claim, ClaimedArm
from lightning_modules import pair_source
from lightning_modules.arms.strategies import find_class, from_config, import_path, own_sources
from lightning_modules.pair_source import PairFiles
from sdvar import checkpoints
from sdvar.checkpoints.reading.hub import SHIPPED
from sdvar.decoding import check_fit
from sdvar.drafts import of_target

MODELS = ("draft", "target", "tokenizer")


@dataclass(frozen=True)
class Decoder:
    """How an arm decodes.

    Attributes:
        pair: the models.
        strategy, sampling: what an image depends on beside them.
    """

    pair: sdvar.ModelPair
    strategy: sdvar.Strategy
    sampling: sdvar.Sampling


def prepare(claim: Claim, arms: Sequence[ClaimedArm], files: Mapping[str, Sequence[str]], allowed: Sequence[str]):
    """What decodes each of the arms, on its device.

    Args:
        claim: whose models.
        arms: of the claim.
        files: those that the user gives, by model; for the draft more than one where arms have drafts of their own.
        allowed: class paths of the user's own strategies that the claim may name.

    Returns:
        A `Decoder` by arm.

    Raises:
        ValueError: a file is missing or is another, an arm is not allowed, or does not fit the models.
    """
    own = {import_path(cls): cls for cls in map(find_class, allowed)}
    strategies = {arm.name: _strategy(arm, own) for arm in arms}
    found = _find(claim, files)
    drafts = {arm.name: _draft(arm, found) for arm in arms}
    pair = pair_source.load(PairFiles(*(found[name] for name in MODELS)), claim.precision)
    pair.tokenizer.drop_encoder()
    facts = {"patch_nums": list(pair.pyramid.patch_nums), "num_classes": pair.num_classes}
    for name, value in facts.items():
        if getattr(claim, name) != value:
            raise ValueError(f"claim: {claim.file}: {name}: the models have {value}, got {getattr(claim, name)}")
    device = torch.device(claim.device if torch.cuda.is_available() else "cpu")
    pairs = {None: pair}
    for draft in drafts.values():
        if draft not in pairs:
            pairs[draft] = pair_source.with_draft(pair, draft, claim.precision)
    for one in pairs.values():
        claim.engine.check(one, device)
        for model in (one.draft, one.target, one.tokenizer):
            model.to(device)
        claim.engine.apply(one)
    decoders = {}
    for arm in arms:
        sampling = claim.sampling if arm.sampling is None else _sampling(arm)
        try:
            check_fit(strategies[arm.name], sampling, len(pair.pyramid))
        except (ValueError, TypeError) as error:
            raise ValueError(f"strategy {arm.name!r}: {error}") from None
        decoders[arm.name] = Decoder(pairs[drafts[arm.name]], strategies[arm.name], sampling)
    return decoders


def _strategy(arm: ClaimedArm, own: Mapping[str, type]) -> sdvar.Strategy:
    try:
        strategy = from_config(arm.strategy, own)
    except ValueError as error:
        raise ValueError(
            f"strategy {arm.name!r}: {error}; a class of your own is used only if you name it: --allow module.Class; "
            "--arms leaves arms out"
        ) from None
    for name, digest in own_sources(strategy).items():
        if arm.source_sha256.get(name) != digest:
            raise ValueError(
                f"strategy {arm.name!r}: the file of {name} is not the one that decoded (its SHA-256 differs)"
            )
    if isinstance(strategy, sdvar.Speculative) and strategy.auto:
        raise ValueError(f"strategy {arm.name!r}: gamma: expected the schedule that was chosen, got 'auto'")
    return strategy


def _sampling(arm: ClaimedArm) -> sdvar.Sampling:
    try:
        return sdvar.Sampling(**(arm.sampling or {}))
    except (ValueError, TypeError) as error:
        raise ValueError(f"strategy {arm.name!r}: sampling: {error}") from None


def _find(claim: Claim, given: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The pair's files by model, and each other draft's by its digest."""
    bundled = {} if claim.pair is None else checkpoints.bundled_files(claim.pair)
    by_digest = {pair_source.digest(str(file)): str(file) for name in MODELS for file in given[name]}
    by_digest |= {pair_source.digest(str(file)): str(file) for file in (*bundled.values(), *SHIPPED.values())}
    found = dict(by_digest)
    for name in MODELS:
        digest = claim.weights.get(name)
        if digest is None:  # of the draft alone, see `read_claim`
            if not of_target(claim.draft):
                raise ValueError(f"claim: {claim.file} names no draft that could be found: it has no SHA-256")
            found[name] = claim.draft
        elif digest in by_digest:
            found[name] = by_digest[digest]
        else:
            raise ValueError(_missing(name, claim.names.get(name, name), digest, given[name]))
    return found


def _draft(arm: ClaimedArm, found: Mapping[str, str]) -> str | None:
    """The file of an arm's own draft, or what is made of the target; None for the pair's draft."""
    if arm.draft is None:
        return None
    if arm.draft_sha256 is None:
        if not of_target(arm.draft):
            raise ValueError(f"strategy {arm.name!r}: draft: it has no SHA-256 and cannot be found")
        return arm.draft
    if arm.draft_sha256 not in found:
        raise ValueError(f"strategy {arm.name!r}: {_missing('draft', arm.draft, arm.draft_sha256, ())}")
    return found[arm.draft_sha256]


def _missing(name: str, called: str, digest: str, given: Sequence[str]) -> str:
    what = f"{name}: the claim's is {called!r:.200} with the SHA-256 {digest}"
    if given:
        return f"{what}, which {', '.join(given)} {'has' if len(given) == 1 else 'have'} not"
    return f"{what}; give it by --{name} FILE"
