"""Every number has one address, and nothing but the address decides it."""

import numpy as np
import pytest
import torch

from sdvar import noise

SEEDS = torch.tensor([0, 1, 2**40 + 5, -3])


def test_generator_is_philox():
    """Against numpy's Philox-4x64? It has other word sizes, so: the known answers of Philox-4x32-10 (Random123)."""
    words = lambda *values: tuple(torch.tensor(v) for v in values)  # noqa: E731
    known = {
        (0, 0, 0, 0, 0, 0): (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        (0xFFFFFFFF,) * 6: (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0): (
            0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    }  # fmt: skip
    for given, answer in known.items():
        assert tuple(int(w) for w in noise.philox(words(*given[:4]), words(*given[4:]))) == answer


def test_every_part_of_the_address_matters():
    base = noise.uniform(SEEDS, "pick", 3, 9, 64, torch.float64)
    assert base.unique().numel() == base.numel()  # seed, position and token
    for stream, scale in (("accept", 3), ("residual", 3), ("smooth", 3), ("pick", 2), ("pick", 4)):
        other = noise.uniform(SEEDS, stream, scale, 9, 64, torch.float64)
        assert not np.intersect1d(base.numpy(), other.numpy()).size


def test_a_number_depends_on_its_own_address_alone():
    """Not on the batch, the number of positions or the size of the codebook."""
    base = noise.gumbel(SEEDS, "pick", 1, 9, 64, torch.float32)
    assert torch.equal(noise.gumbel(SEEDS[2:3], "pick", 1, 9, 64, torch.float32)[0], base[2])
    assert torch.equal(noise.gumbel(SEEDS.flip(0), "pick", 1, 9, 64, torch.float32), base.flip(0))
    assert torch.equal(noise.gumbel(SEEDS, "pick", 1, 4, 33, torch.float32), base[:, :4, :33])


def test_open_interval_at_both_ends(monkeypatch):
    for word in (0, 0xFFFFFFFF):
        monkeypatch.setattr(noise, "philox", lambda counter, key, word=word: (torch.full((1, 1, 1), word),) * 4)
        for dtype in (torch.float32, torch.float64):
            u = noise.uniform(SEEDS[:1], "pick", 0, 1, 4, dtype)
            assert ((u > 0) & (u < 1)).all()
            assert noise.gumbel(SEEDS[:1], "pick", 0, 1, 4, dtype).isfinite().all()


def test_uniform_and_uncorrelated_along_every_axis():
    seeds = torch.arange(64)
    u = noise.uniform(seeds, "pick", 2, 64, 256, torch.float64)  # 2**20 numbers
    counts = torch.histc(u, bins=256, min=0, max=1)
    chi_square = ((counts - 4096) ** 2 / 4096).sum().item()
    assert abs(chi_square - 255) < 5 * (2 * 255) ** 0.5
    centred = u - 0.5
    for axis in range(3):
        moved = centred.roll(1, dims=axis)
        correlation = (centred * moved).mean().item() * 12
        assert abs(correlation) < 5 / 2**10


def test_gumbel_argmax_draws_from_the_distribution():
    p = torch.tensor([0.5, 0.25, 0.15, 0.1], dtype=torch.float64)
    g = noise.gumbel(torch.arange(200), "pick", 0, 100, 4, torch.float64)
    counts = torch.bincount((p.log() + g).argmax(-1).flatten(), minlength=4)
    expected = p * 20_000
    assert ((counts - expected) ** 2 / expected).sum().item() < 16.3  # chi-square, 3 degrees of freedom, level 0.001


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_draws_the_same_numbers():
    for dtype in (torch.float32, torch.float64):
        cpu = noise.uniform(SEEDS, "pick", 5, 36, 512, dtype)
        assert torch.equal(cpu, noise.uniform(SEEDS.cuda(), "pick", 5, 36, 512, dtype).cpu())
