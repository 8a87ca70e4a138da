"""Whether lossless speculation pays at batch size 1, in a run at whose batch size it does not."""

from __future__ import annotations

from typing import Any

from lightning_modules.arms.arm import Arm, is_auto
from lightning_modules.data.labels import ClassLabelDataModule
from lightning_modules.predictor import SDVARPredictor
from sdvar.planning.tuning import choose, drafts_nothing
from sdvar.system import steps

MOST_SECONDS = 10.0  # less in a short run


def speculation_at_batch_one(predictor: SDVARPredictor, data: ClassLabelDataModule) -> dict[str, Any] | None:
    """What the first lossless arm whose gamma is "auto" decodes with at batch size 1, measured now.

    Args:
        predictor: with its models on their device and its arms tuned.
        data: the run's images; the fewer, the less time is spent.

    Returns:
        The batch size, whether speculation pays, the strategy and the reason in words, and where a schedule was timed
        its speed relative to plain decoding and the noise of that. None if the run's batch size is 1, an arm drafts, or
        there is no time to measure.
    """
    open_arms = [arm for arm in predictor.arms if is_auto(arm.strategy) and arm.lossless]
    if data.batch_size == 1 or not open_arms or not all(drafts_nothing(arm.decoding) for arm in open_arms):
        return None
    arm: Arm = open_arms[0]
    pair, sampling = predictor.pairs[arm.draft], arm.sampling or predictor.sampling
    steps.log.info("%s: measuring what pays to draft at batch size 1", arm.name)
    with predictor.engine.numerics():
        choice = choose(arm.strategy, pair, sampling, 1, MOST_SECONDS, data.images)
    if not choice.measured:
        return None
    pays = not drafts_nothing(choice.strategy)
    words = "speculation pays" if pays else "it was not found to pay"
    print(f"{arm.name} at batch size 1: {words}: {choice.reason}", flush=True)
    return {
        "batch_size": 1,
        "arm": arm.name,
        "pays": pays,
        "strategy": str(choice.strategy),
        "reason": choice.reason,
        "speed": choice.speed,
        "speed_noise": choice.noise,
    }
