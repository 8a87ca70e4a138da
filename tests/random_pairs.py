"""Small pairs with random weights, for what holds for any weights."""

from __future__ import annotations

import torch

import sdvar

CLASSES = 10


def random_var(
    patch_nums: tuple[int, ...], seed: int, depth: int = 2, width: int = 32, vocabulary: int = 32, head: float = 1.5
) -> sdvar.VAR:
    """A VAR whose logits have a standard deviation of about ``head``."""
    torch.manual_seed(seed)
    model = sdvar.VAR(patch_nums, CLASSES, depth, width, width // 16, vocabulary, 8, shared_adaln=bool(seed % 2))
    model.init_weights(adaln_gain=0.5)
    torch.nn.init.normal_(model.class_emb.weight)
    torch.nn.init.normal_(model.head.weight, std=head / width**0.5)
    return model


def random_pair(
    patch_nums: tuple[int, ...] = (1, 2, 3, 4), dtype: torch.dtype = torch.float64, same: bool = False, **model
) -> sdvar.ModelPair:
    """An unrelated draft and target (the same model with ``same``) over one random tokenizer."""
    target = random_var(patch_nums, seed=2, depth=3, **model)
    draft = target if same else random_var(patch_nums, seed=1, **model)
    torch.manual_seed(3)
    tokenizer = sdvar.VQVAE(patch_nums, target.codebook_size, 8, base_channels=32, channel_multipliers=(1, 1))
    return sdvar.ModelPair(draft.to(dtype), target.to(dtype), tokenizer.to(dtype))


def close_pair(patch_nums: tuple[int, ...] = (1, 2, 3, 4), dtype: torch.dtype = torch.float64) -> sdvar.ModelPair:
    """A pair whose draft is the target with a little noise in its head, so that some scales are rejected."""
    pair = random_pair(patch_nums, torch.float64)
    draft = random_var(patch_nums, seed=2, depth=3).double()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(draft.head.weight.shape, generator=generator, dtype=torch.float64)
    draft.head.weight.data.add_(noise, alpha=0.02)
    return sdvar.ModelPair(draft.to(dtype), pair.target.to(dtype), pair.tokenizer.to(dtype))


def same_tokens(a: sdvar.DecodeResult, b: sdvar.DecodeResult) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.tokens, b.tokens, strict=True))
