"""The kernel against torch's operations under Triton's interpreter; run by test_pick.py, in a process of its own.

The interpreter has to be asked for before Triton is imported.
"""

import math
from types import SimpleNamespace

import pytest
import torch
import triton
import triton.language as tl

import sdvar
from eval.contact.steps import kernel as step
from sdvar import Sampling, noise
from sdvar.decoding import stepper
from sdvar.kernels import pick as kernel
from sdvar.sampling import token_mass
from tests.random_pairs import close_pair, random_pair, same_tokens

PYRAMID = sdvar.ScalePyramid((1, 2))
PROOF = pytest.mark.proof
SEEDS = torch.tensor([5, -(2**62) + 12345, 2**40 + 7])


def positions(guidance=None, temperature=None):
    """Of PYRAMID, with one number per scale or none."""
    scales, places = PYRAMID.addresses(torch.device("cpu"))
    table = [None if values is None else torch.tensor(values)[scales.long()] for values in (guidance, temperature)]
    return kernel.Positions(scales, places, *table)


def guided_logits(raw, table, offset=0):
    """As `sdvar.decoding.stepper` makes them."""
    part = slice(offset, offset + raw.shape[1])
    if table.guidance is not None:
        of_class, of_null = raw.chunk(2)
        t = table.guidance[part, None]
        raw = (1 + t) * of_class - t * of_null
    return raw if table.temperature is None else raw / table.temperature[part, None]


def gumbel_of(table, offset, count, vocabulary, seeds=SEEDS):
    part = slice(offset, offset + count)
    return noise.gumbel(seeds, "pick", table.scales[part].long(), table.places[part].long(), vocabulary, torch.float32)


def check(raw, table, sampling, offset=0, seeds=SEEDS):
    """The kernel's tokens are those of torch's operations, but for a tie within the rounding of a logarithm."""
    ours = kernel.pick(raw, table, offset, seeds, sampling)
    logits = guided_logits(raw, table, offset)
    scores = sampling.filtered(logits) + gumbel_of(table, offset, raw.shape[1], raw.shape[2], seeds)
    gaps = scores.amax(-1) - scores.gather(-1, ours.tokens[..., None])[..., 0]
    assert (gaps <= 1e-5).all()
    assert (ours.tokens == scores.argmax(-1)).all()  # with these seeds there is no such tie
    assert ours.finite.all()


@triton.jit
def parts_kernel(
    x, seeds, kept, masses, uniform, top_k, drop,
    V: tl.constexpr, BLOCK: tl.constexpr, BY_K: tl.constexpr, BY_P: tl.constexpr,
):  # fmt: skip
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    inside = column < V
    numbers = tl.load(x + row * V + column, mask=inside, other=-float("inf"))
    tl.store(kept + row * V + column, kernel._kept(numbers, top_k, drop, BY_K, BY_P), mask=inside)
    tl.store(masses + row * V + column, kernel._mass(numbers - tl.max(numbers)), mask=inside)
    u = kernel._uniform(tl.load(seeds + row), row + 2, row + 7, BLOCK)
    tl.store(uniform + row * V + column, u, mask=inside)


def parts(x, sampling, seeds):
    """What the kernel makes on its way, of x (rows, V)."""
    rows, vocabulary = x.shape
    kept, masses, uniform = torch.empty_like(x, dtype=torch.bool), torch.empty_like(x, dtype=torch.int64), x.clone()
    parts_kernel[(rows,)](
        x, seeds, kept, masses, uniform, sampling.top_k, sampling.drop, V=vocabulary,
        BLOCK=max(4, triton.next_power_of_2(vocabulary)), BY_K=0 < sampling.top_k < vocabulary,
        BY_P=0 < sampling.top_p < 1,
    )  # fmt: skip
    return kept, masses, uniform


@pytest.mark.parametrize("vocabulary", [5, *(pytest.param(size, marks=PROOF) for size in (2, 1000))])
@pytest.mark.parametrize("top_k, top_p", [
    (3, 0.0), (0, 0.7), (40, 0.95), *(pytest.param(*case, marks=PROOF) for case in ((1, 1e-9), (40, 0.9999999))),
])  # fmt: skip
def test_filters_mass_and_noise_are_equal_to_the_bit(vocabulary, top_k, top_p):
    """With and without ties, zeros of both signs among them."""
    generator = torch.Generator().manual_seed(vocabulary)
    x = torch.randn(4, vocabulary, generator=generator) * torch.tensor([[0.01], [1.0], [4.0], [60.0]])
    x[1:3, ::2] = x[1:3, ::2].round() * 0.5
    x[1, ::4] = -x[1, ::4]
    sampling, seeds = Sampling(top_k=top_k, top_p=top_p), torch.tensor([0, -1, 2**63 - 1, -(2**63)])
    kept, masses, uniform = parts(x, sampling, seeds)
    assert torch.equal(kept, sampling.filtered(x) > -math.inf)
    assert torch.equal(masses, token_mass(x - x.amax(-1, keepdim=True)))
    for row in range(4):
        address = torch.tensor([row + 2]), torch.tensor([row + 7])
        expected = noise.uniform(seeds[row : row + 1], "pick", *address, vocabulary, torch.float32)
        assert torch.equal(uniform[row], expected[0, 0])


FILTERS = [Sampling(), Sampling(top_k=7), Sampling(top_p=0.9), Sampling(top_k=20, top_p=0.8), Sampling(top_k=1)]


@pytest.mark.parametrize(("sampling", "vocabulary"), [
    (FILTERS[3], 24), *(pytest.param(sampling, size, marks=PROOF) for sampling in FILTERS for size in (3, 100)),
])  # fmt: skip
def test_the_kernel_picks_the_tokens_of_torchs_operations(sampling, vocabulary):
    generator = torch.Generator().manual_seed(vocabulary)
    raw = torch.randn(2, 5, vocabulary, generator=generator) * 3
    check(raw, positions(guidance=[0.0, 1.5], temperature=[1.3, 0.7]), sampling, seeds=SEEDS[1:2])
    check(raw[:2, 1:3].round(), positions(), sampling, offset=2, seeds=SEEDS[1:])  # a part of a scale, with ties


def test_the_first_contact_with_a_gpu_finds_a_kernel_that_picks_wrongly(monkeypatch):
    for name, value in {"VOCABULARY": 40, "IMAGES": 2, "POSITIONS": 2, "FILTERS": FILTERS[3:4]}.items():
        monkeypatch.setattr(step, name, value)
    assert step._on_logits(kernel, torch.device("cpu")) == (0, [])

    def wrong(raw, *arguments):
        picked = kernel.pick(raw, *arguments)
        return picked._replace(tokens=(picked.tokens + 1) % 40)

    ties, problems = step._on_logits(SimpleNamespace(Positions=kernel.Positions, pick=wrong), torch.device("cpu"))
    assert ties and len(problems) == 1 and "falls short of torch's by a score of" in problems[0]


def test_the_released_vocabulary():
    raw = torch.randn(2, 2, 4096, generator=torch.Generator().manual_seed(0)) * 3
    check(raw, positions(guidance=[0.0, 1.5]), Sampling(top_k=900, top_p=0.96), seeds=SEEDS[1:2])


@PROOF
def test_every_image_of_a_large_batch():
    raw = torch.randn(64, 1, 16, generator=torch.Generator().manual_seed(1))
    check(raw, positions(), Sampling(), offset=3, seeds=torch.arange(-32, 32))


def test_what_is_not_finite_is_marked_and_picks_some_token():
    raw = torch.zeros(4, 3, 6)
    raw[0, 1, 2], raw[1, 2, :], raw[2, 2, 5], raw[3, 0, 0] = math.nan, math.nan, math.inf, -math.inf
    table = positions(guidance=[1.0, 1.0])
    ours = kernel.pick(raw, table, 0, SEEDS[:2], FILTERS[3])
    assert torch.equal(ours.finite, guided_logits(raw, table).isfinite().all(-1))
    assert (~ours.finite).nonzero().tolist() == [[0, 1], [0, 2], [1, 0], [1, 2]]
    assert ((ours.tokens >= 0) & (ours.tokens < 6)).all()


def test_a_row_with_one_token_picks_it():
    raw = torch.full((3, 5, 9), -3e38)
    raw[..., 4] = 3e38
    assert (kernel.pick(raw, positions(), 0, SEEDS, Sampling()).tokens == 4).all()


def test_drafted_tokens_are_counted_scale_by_scale():
    raw, seeds = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(2)), SEEDS[:2]
    tokens = kernel.pick(raw, positions(), 0, seeds, Sampling()).tokens
    drafted = tokens.clone()
    drafted[0, 0], drafted[1, 2:4] = 23 - drafted[0, 0], 23 - drafted[1, 2:4]
    both = kernel.pick(raw, positions(), 0, seeds, Sampling(), drafted, 2)
    assert torch.equal(both.tokens, tokens)
    assert both.agreed.tolist() == [[0, 4], [1, 2]]
    first = kernel.pick(raw, positions(), 0, seeds, Sampling(), drafted[:, :1], 1)  # the bonus scale has no draft
    assert first.agreed.tolist() == [[0], [1]]


OTHERS = [
    sdvar.Speculative(2, redraft="target"), sdvar.Speculative(2, sdvar.Match(0.5, "target")),
    sdvar.Speculative(2, sdvar.Rejection()), sdvar.Handoff(2),
]  # fmt: skip


@pytest.mark.parametrize(
    "strategy", [sdvar.Speculative(2), *(pytest.param(each, marks=PROOF) for each in OTHERS)], ids=repr
)
@pytest.mark.parametrize("cfg", [pytest.param(2.0, marks=PROOF), (0.0, 2.0, 0.0)], ids=repr)
def test_a_decode_with_the_kernel_is_the_decode_without(strategy, cfg, monkeypatch):
    sampling = Sampling(cfg=cfg, top_k=12, temperature=[1.0, 1.2, 0.8])
    pair = close_pair((1, 1, 2), torch.float32)
    batch = pair, [1, 10], [3, -5], strategy, sampling
    expected = sdvar.decode(*batch, images=False)
    launches = use_kernel(monkeypatch)
    ours = sdvar.decode(*batch, images=False)
    assert same_tokens(ours, expected) and launches
    for name, value in vars(expected.stats).items():
        assert torch.equal(getattr(ours.stats, name), value), name


def use_kernel(monkeypatch):
    """Decode with the kernel on the CPU; returns a list that grows by its positions with each launch."""
    launches = []

    def counted(raw, *arguments, **options):
        launches.append(raw.shape[1])
        return kernel.pick(raw, *arguments, **options)

    monkeypatch.setattr(stepper, "fused_pick", lambda *of_logits: counted)
    return launches


def test_a_round_has_one_launch_of_the_target_and_one_wait(monkeypatch):
    """A draft that equals the target: each round drafts two scales and judges them with the one after them."""
    pair = random_pair((1, 1, 1, 1, 1), torch.float32, same=True, vocabulary=8)
    launches, waits = use_kernel(monkeypatch), []
    tolist = torch.Tensor.tolist
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "tolist", lambda self: waits.append(self.shape) or tolist(self))
        sdvar.Speculative(2).run(sdvar.decoding.DecodeState(pair, torch.tensor([1, 2]), SEEDS[:2], Sampling(cfg=0.0)))
    # scale 0, of the class alone; two drafts, a verification of three scales, and the last by itself
    assert launches == [1, 1, 1, 3, 1]
    assert waits[0] == (2,)  # the labels, on the CPU
    assert waits[1:] == [(2, 2)]


def test_logits_that_are_not_finite_are_named(monkeypatch):
    use_kernel(monkeypatch)
    pair = random_pair((1, 2), torch.float32, vocabulary=8)
    pair.target.head.bias.data[3] = math.nan
    with pytest.raises(ValueError, match="the target model's logits are NaN or infinite at scale 0 of image 0"):
        sdvar.decode(pair, [1], [2], sdvar.Baseline(), images=False)
