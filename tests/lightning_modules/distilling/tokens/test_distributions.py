"""A target's distributions take few bytes and teach the same."""

import numpy as np
import pytest
import torch

import sdvar
from lightning_modules.distilling.divergence import divergence
from lightning_modules.distilling.teaching.teacher import Teacher, guided_logits
from lightning_modules.distilling.tokens.distributions import Distributions, pack, unpack
from lightning_modules.distilling.tokens.shards import DISTRIBUTIONS, Origin, write_shard
from tests.random_pairs import random_pair

CPU = torch.device("cpu")
FILTERS = [{"top_k": 3}, {"top_p": 0.9}, {"top_k": 5, "top_p": 0.8}, {}]


def some_logits(images: int, codebook: int, filters: dict) -> torch.Tensor:
    noise = torch.randn(images, 7, codebook, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return sdvar.Sampling(**filters).filtered(3 * noise)


@pytest.mark.parametrize("filters", FILTERS, ids=str)
@pytest.mark.parametrize("codebook", [16, 21])
def test_they_are_unpacked_as_they_were(filters, codebook):
    logits = some_logits(2, codebook, filters)
    packed = pack(logits)
    again = unpack(*packed.values(), codebook, CPU)
    assert torch.equal(again.isfinite(), logits.isfinite())
    ours, theirs = (given.double().log_softmax(-1)[logits.isfinite()] for given in (again, logits))
    torch.testing.assert_close(ours, theirs, atol=20 * 2**-11, rtol=0)  # logits are up to 20 below the best
    torch.testing.assert_close(again.double().softmax(-1), logits.softmax(-1), atol=2e-4, rtol=0)
    bits, values = (sum(map(len, packed[name])) for name in DISTRIBUTIONS)
    assert bits == 2 * 7 * -(-codebook // 8) and values == 2 * int(logits.isfinite().sum())


def test_any_image_is_read_alone(tmp_path):
    """Of several shards, in the order of the images' numbers."""
    logits = some_logits(5, 16, {"top_k": 3})
    files = []
    for numbers in ([3, 1], [0, 4, 2]):
        origin = Origin("target", "tokenizer", [1, 2], distributions=True)
        tokens = np.zeros((len(numbers), 5), dtype=int)
        files.append(write_shard(tmp_path, origin, numbers, numbers, numbers, tokens, pack(logits[numbers])))
    kept = Distributions(files, [2, 3], np.argsort([3, 1, 0, 4, 2]))
    for rows in ([2], [4, 0, 3, 0]):
        assert torch.equal(kept.read(rows, 16, CPU), unpack(*pack(logits[rows]).values(), 16, CPU))
    files[0].write_bytes(files[0].read_bytes()[:100])
    with pytest.raises(ValueError, match=r"0000000003.parquet is damaged .* the command that made it makes its images"):
        Distributions(files, [2, 3], np.arange(5)).read([0], 16, CPU)


@pytest.mark.parametrize(("first", "last"), [(0, 4), (2, 4), (0, 2)])
@pytest.mark.parametrize("filters", [{"top_k": 8, "top_p": 0.9}, {}], ids=str)
def test_they_teach_what_the_target_would(first, last, filters):
    """The same inputs; loss and gradients as in the step that runs the target, within float16's rounding."""
    pair, sampling = random_pair(), sdvar.Sampling(cfg=1.5, **filters)
    teacher, (labels, seeds) = Teacher(pair.target, pair.tokenizer, sampling), torch.tensor([[0, 3, 9], [5, 6, 7]])
    whole = teacher.lesson(labels, seeds, 4)
    logits = unpack(*pack(whole.logits).values(), pair.target.codebook_size, CPU)
    stored = teacher.stored_lesson(labels, seeds, last, whole.tokens, logits)
    expected = teacher.lesson(labels, seeds, last, known=whole.tokens)
    assert torch.equal(stored.inputs, expected.inputs) and torch.equal(stored.tokens, expected.tokens)
    losses, gradients = [], []
    for lesson in (stored, expected):
        draft = guided_logits(pair.draft.requires_grad_(), labels, lesson.inputs, first, last, sampling)
        losses.append(divergence(lesson.logits[:, pair.pyramid.span(first, last)], draft, sampling).mean())
        gradients.append(torch.autograd.grad(losses[-1], list(pair.draft.blocks.parameters())))
    torch.testing.assert_close(losses[0], losses[1], atol=0, rtol=1e-4)
    ours, theirs = (torch.cat([one.flatten() for one in parts]) for parts in gradients)
    assert (ours - theirs).norm() < 1e-3 * theirs.norm()
