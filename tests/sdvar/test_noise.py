"""Every number has one address, and nothing but the address decides it."""

import itertools

import pytest
import torch
from scipy.stats import chisquare

from sdvar import noise

SEEDS = torch.tensor([0, 1, 2**32, 2**32 + 1, 2**40 + 5, -3, -(2**63)])


def test_several_scales_at_once_are_those_one_by_one():
    scales, places = torch.tensor([2] * 3 + [5] * 2), torch.tensor([0, 1, 2, 0, 1])
    together = noise.gumbel(SEEDS, "pick", scales, places, 33, torch.float32)
    apart = [noise.gumbel(SEEDS, "pick", scale, count, 33, torch.float32) for scale, count in ((2, 3), (5, 2))]
    assert torch.equal(together, torch.cat(apart, dim=1))


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


def grid(seeds, scales, positions, tokens):
    """Uniform numbers of all these addresses and streams: (seeds, streams, scales, positions, tokens)."""
    by_stream = [
        torch.stack([noise.uniform(seeds, stream, k, positions, tokens, torch.float64) for k in range(scales)], dim=1)
        for stream in noise.STREAMS
    ]
    return torch.stack(by_stream, dim=1)


def test_every_part_of_the_address_matters():
    """Two addresses that differ in one part only never give the same number; seeds that share a half included."""
    u = grid(SEEDS, scales=4, positions=5, tokens=9)
    for dim, size in enumerate(u.shape):
        for i, j in itertools.combinations(range(size), 2):
            assert (u.select(dim, i) != u.select(dim, j)).all()


FORGOTTEN = ["lane", "position", "scale", "stream", "low half of the seed", "high half of the seed"]


def forget(monkeypatch, part):
    """Make the generator deaf to one word of its input."""

    def deaf(counter, key):
        words = [torch.zeros_like(w) if i == FORGOTTEN.index(part) else w for i, w in enumerate((*counter, *key))]
        return philox(tuple(words[:4]), tuple(words[4:]))

    philox = noise.philox
    monkeypatch.setattr(noise, "philox", deaf)


@pytest.mark.parametrize("part", FORGOTTEN)
def test_a_forgotten_part_is_noticed(monkeypatch, part):
    forget(monkeypatch, part)
    with pytest.raises(AssertionError):
        test_every_part_of_the_address_matters()


def test_a_number_depends_on_its_own_address_alone():
    """Not on the batch, the number of positions or the size of the codebook."""
    base = noise.gumbel(SEEDS, "pick", 1, 9, 64, torch.float32)
    assert torch.equal(noise.gumbel(SEEDS[2:3], "pick", 1, 9, 64, torch.float32)[0], base[2])
    assert torch.equal(noise.gumbel(SEEDS.flip(0), "pick", 1, 9, 64, torch.float32), base.flip(0))
    assert torch.equal(noise.gumbel(SEEDS, "pick", 1, 4, 33, torch.float32), base[:, :4, :33])


def test_open_interval_at_both_ends(monkeypatch):
    for word in (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFF00, 0xFFFFFFFE, 0xFFFFFFFF):
        monkeypatch.setattr(noise, "philox", lambda counter, key, word=word: (torch.full((1, 1, 1), word),) * 4)
        for dtype in (torch.float32, torch.float64):
            u = noise.uniform(SEEDS[:1], "pick", 0, 1, 4, dtype)
            assert u.dtype == dtype
            assert ((u > 0) & (u < 1)).all()
            assert (u.double() - word / 2**32).abs().max() < 2**-23
            assert noise.gumbel(SEEDS[:1], "pick", 0, 1, 4, dtype).isfinite().all()


def test_both_dtypes_round_the_same_number():
    """Of the Gumbel numbers the large ones decide: those are exact in float32."""
    single, double = (noise.uniform(SEEDS, "smooth", 2, 16, 100, dtype) for dtype in (torch.float32, torch.float64))
    assert (single - double).abs().max() <= 2**-24
    single, double = (noise.gumbel(SEEDS, "smooth", 2, 16, 100, dtype) for dtype in (torch.float32, torch.float64))
    assert (single - double)[double > 0].abs().max() < 2e-6


def test_uniform_and_uncorrelated_along_every_axis():
    """The numbers fill 256 bins evenly, all together and in each stream and scale; so do pairs of neighbours, 16 x 16
    bins, along each axis. Level 1e-5 per test."""
    seeds = torch.tensor([(high << 32) + low for high in range(-2, 4) for low in range(4)])  # 4 on: the other half
    u = grid(seeds, scales=5, positions=25, tokens=64)  # 768,000 numbers
    parts = [u, *u.unbind(1), *u.unbind(2)]
    for part in parts:
        assert chisquare(torch.histc(part, bins=256, min=0, max=1)).pvalue > 1e-5
    for dim, size in enumerate(u.shape):
        for step in (1, 2, 4):  # one call of the generator serves four tokens
            if step < size:
                pairs = u.narrow(dim, 0, size - step), u.narrow(dim, step, size - step)
                cells = (pairs[0] * 16).long() * 16 + (pairs[1] * 16).long()
                assert chisquare(cells.flatten().bincount(minlength=256)).pvalue > 1e-5
                correlation = torch.corrcoef(torch.stack([p.flatten() for p in pairs]))[0, 1].item()
                assert abs(correlation) < 5 / pairs[0].numel() ** 0.5


@pytest.mark.parametrize("part", FORGOTTEN)
def test_correlation_is_noticed(monkeypatch, part):
    """The test of the test: deaf to a part, the numbers repeat along its axis."""
    forget(monkeypatch, part)
    with pytest.raises(AssertionError):
        test_uniform_and_uncorrelated_along_every_axis()


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
