import torch

from lightning_modules.columns import PER_IMAGE, PER_SCALE
from lightning_modules.decode_statistics import DecodeStatistics

SCALES = 3


def batch(images: int, factor: int) -> tuple[dict, dict]:
    per_image = {name: torch.arange(images) + factor for name in PER_IMAGE}
    per_scale = {
        "drafted_tokens": torch.tensor([4, 16, 0]) * factor,
        "agreed_tokens": torch.tensor([4, 8, 0]) * factor,
        "drafted_scales": torch.tensor([4, 4, 0]) * factor,
        "accepted_scales": torch.tensor([4, 1, 0]) * factor,
    }
    assert set(per_scale) == set(PER_SCALE)
    return per_image, per_scale


def test_means_are_over_images_not_over_batches():
    statistics = DecodeStatistics(SCALES)
    statistics.update(*batch(images=3, factor=1))  # 1, 2, 3
    statistics.update(*batch(images=1, factor=10))  # 10
    assert statistics.compute()["target_calls_mean"] == 4


def test_shares_per_scale_and_nan_where_nothing_was_drafted():
    statistics = DecodeStatistics(SCALES)
    statistics.update(*batch(4, 1))
    values = statistics.compute()
    assert values["agreement_per_scale"][:2].tolist() == [1, 0.5]
    assert values["accepted_scales_per_scale"][:2].tolist() == [1, 0.25]
    assert values["agreement_per_scale"][2].isnan()


def test_processes_add_up_to_one():
    one = DecodeStatistics(SCALES)
    ranks = [DecodeStatistics(SCALES) for _ in range(3)]  # the third has no batch
    for rank, given in zip(ranks, (batch(3, 1), batch(5, 4))):
        one.update(*given)
        rank.update(*given)
    for name, reduce in one._reductions.items():
        setattr(ranks[0], name, reduce(torch.stack([getattr(rank, name) for rank in ranks])))
    for key, value in one.compute().items():
        torch.testing.assert_close(ranks[0].compute()[key], value, equal_nan=True)
