"""The models of a benchmark or a plan: loaded, or of a released size with random weights; and where they run."""

from __future__ import annotations

import math

import torch
from jsonargparse import Namespace
from torch import nn

import sdvar
from eval.cli.groups import engine_of
from eval.estimates.memory import free_bytes
from lightning_modules import pair_source
from lightning_modules.pair_source import source_of
from sdvar.checkpoints.filling import derived_buffer
from sdvar.models.cost import state_bytes

PYRAMID_256 = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
PYRAMID_512 = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)
WIDTH_PER_DEPTH = 64


def choose_device(accelerator: str) -> torch.device:
    """Where models run under ``--accelerator``: auto, cpu, cuda or gpu; ValueError if there is no such device."""
    available = torch.cuda.is_available()
    if accelerator in ("cuda", "gpu") and not available:
        raise ValueError("accelerator: expected a GPU for cuda, got none from torch; --accelerator cpu needs none")
    return torch.device("cpu" if accelerator == "cpu" or not available else "cuda")


def load(options: Namespace, device: torch.device) -> tuple[sdvar.ModelPair, dict[str, str]]:
    """The pair that the options name, on the device, run as they say, and what identifies its weights, by model.

    Sets the threads of the process; TF32 is the caller's, see `sdvar.engine.tf32_allowed`.

    Raises:
        ValueError: naming the option.
    """
    engine, dtype = engine_of(options), pair_source.DTYPES[options.precision]
    torch.set_num_threads(engine.threads)
    if options.random_weights:
        pair, weights = random_pair(options.random_weights, dtype, device), {}
        if options.draft:
            pair = pair_source.with_draft(pair, options.draft, options.precision)
    else:
        source = source_of(options.pair, options.draft, options.target, options.tokenizer)
        pair, weights = pair_source.load(source, options.precision), pair_source.digests(source)
        for model in (pair.draft, pair.target, pair.tokenizer):
            model.to(device)
    return engine.apply(pair), weights


def random_pair(sizes: list[str], dtype: torch.dtype, device: torch.device) -> sdvar.ModelPair:
    """A pair of released sizes with random weights; one size makes a model that is target and draft.

    Args:
        sizes: target and draft, such as "d30" and "d16".
        dtype: of the blocks, which are made in it: no copy in another dtype exists.
        device: where they are made.

    Raises:
        ValueError: if the weights do not fit into memory.
    """
    empty = [_empty_var(size, dtype) for size in dict.fromkeys(sizes)]
    with torch.device("meta"):
        tokenizer = sdvar.VQVAE(empty[0].pyramid)
    tokenizer = sdvar.load_tokenizer(tokenizer.state_dict(), tokenizer.pyramid, dtype=dtype)
    needed, free = sum(map(state_bytes, (*empty, tokenizer))), free_bytes(device)
    if needed > free:
        raise ValueError(
            f"random_weights: {','.join(sizes)} takes {needed:,} bytes in {dtype}, {free:,} are free; use smaller "
            "models or a lower --precision"
        )
    torch.manual_seed(0)
    made = [_fill_var(model.to_empty(device=device)) for model in empty]
    return sdvar.ModelPair(draft=made[-1], target=made[0], tokenizer=_fill_tokenizer(tokenizer.to_empty(device=device)))


def _empty_var(size: str, dtype: torch.dtype) -> sdvar.VAR:
    """On the meta device, with the dtypes that loading gives."""
    depth, large = int(size[1:]), size == "d36"
    pyramid = PYRAMID_512 if large else PYRAMID_256
    with torch.device("meta"):
        model = sdvar.VAR(pyramid, depth=depth, width=WIDTH_PER_DEPTH * depth, heads=depth, shared_adaln=large)
    return sdvar.load_var(model.state_dict(), pyramid, dtype=dtype)


@torch.no_grad()
def _fill_var(model: sdvar.VAR) -> sdvar.VAR:
    """Weights with which classes, positions and tokens differ and logits spread by about 2."""
    for name, parameter in model.named_parameters():
        if name.endswith("scale_mul_1H11"):
            parameter.fill_(math.log(4))
        elif name.endswith("ada_gss"):
            parameter.normal_(std=0.5 / model.width**0.5)
        elif parameter.ndim == 1:
            parameter.zero_()
    model.init_weights(adaln_gain=0.5)
    model.class_emb.weight.normal_()
    model.head.weight.normal_(std=2 / model.width**0.5)
    for name, buffer in model.named_buffers():
        buffer.copy_(derived_buffer(model, name, buffer.shape))
    return model


@torch.no_grad()
def _fill_tokenizer(model: sdvar.VQVAE) -> sdvar.VQVAE:
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.GroupNorm | nn.Embedding):
            module.reset_parameters()
    model.quantize.ema_vocab_hit_SV.zero_()
    return model
