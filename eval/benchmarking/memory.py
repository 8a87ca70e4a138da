"""Does a batch fit? An estimate of the bytes that a decode takes beyond the weights, and what the machine has left."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch

import sdvar
from eval.benchmarking.roofline import VARSize
from sdvar.models.linear import Linear

LARGEST_BATCH = 256  # that "auto" tries
# Bytes for each number of the guided logits of the widest scale, while they are filtered and picked from: the logits of
# both branches, the guided ones, their copies in the filters, and the generator's 64-bit words. Measured, rounded up.
PICK_BYTES = 128
# Feature maps at full resolution and width that the tokenizer's decoder holds at once, its convolutions' space counted.
TOKENIZER_MAPS = 10


def decode_bytes(pair: sdvar.ModelPair, strategy: sdvar.Strategy, batch: int, images: bool = True) -> int:
    """Bytes that decoding a batch takes beyond the weights, estimated on the safe side.

    Args:
        pair: the models.
        strategy: a Baseline runs one model, a scale at a time; any other both, up to all scales in one pass.
        batch: images.
        images: whether the tokenizer's decoder runs.
    """
    plain = isinstance(strategy, sdvar.Baseline)
    models = [getattr(pair, strategy.model)] if plain else [pair.draft, pair.target]
    pyramid, rows = pair.pyramid, 2 * batch
    widest = max(pyramid.tokens) if plain else pyramid.length
    sizes = [VARSize.of(model) for model in models]
    caches = sum(size.cache_bytes(rows, pyramid.length) for size in sizes)
    hidden = max(
        rows * widest * (4 * size.width * size.head_bytes + 2 * size.hidden * size.block_bytes) for size in sizes
    )
    raw = rows * widest * pair.target.codebook_size * sizes[-1].head_bytes
    picked = batch * max(pyramid.tokens) * pair.target.codebook_size * PICK_BYTES
    noise = 0 if plain else batch * pyramid.length * pair.target.codebook_size * sizes[-1].head_bytes  # kept for later
    decoder = _tokenizer_bytes(pair.tokenizer, batch) if images else 0
    layers = [layer for model in models for layer in model.modules() if isinstance(layer, Linear)]
    copies = sum(layer.weight.nbytes for layer in layers if layer.copies and not layer.copy_bytes)
    return caches + copies + noise + max(hidden + raw, raw + picked, decoder)


def _tokenizer_bytes(tokenizer: sdvar.VQVAE, batch: int) -> int:
    weight = tokenizer.decoder.conv_out.weight
    together = min(batch, tokenizer.decoded_together)
    return together * TOKENIZER_MAPS * weight.shape[1] * tokenizer.image_size**2 * weight.element_size()


def free_bytes(device: torch.device) -> int:
    """Bytes that the device can still give this process."""
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    info = Path("/proc/meminfo")
    if info.is_file():
        lines = dict(line.split(":") for line in info.read_text().splitlines())
        if "MemAvailable" in lines:
            return 1024 * int(lines["MemAvailable"].split()[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def largest_batch(needed: Callable[[int], int], free: int) -> int:
    """The largest power of two up to `LARGEST_BATCH` that fits; 0 if none does.

    Args:
        needed: bytes that a batch takes.
        free: bytes that there are.
    """
    batch = LARGEST_BATCH
    while batch and needed(batch) > free:
        batch //= 2
    return batch


def check_batch(batch: int, needed: Callable[[int], int], free: int) -> None:
    """Raise ValueError, naming the bytes and a batch that fits, unless the batch fits."""
    if needed(batch) > free:
        raise too_large(batch, needed(batch), free, largest_batch(needed, free))


def too_large(batch: int, needed: int, free: int, fitting: int) -> ValueError:
    """The error for a batch that does not fit, for which ``fitting`` would (0: none)."""
    advice = f"{fitting} fits" if fitting else "not even 1 fits: take smaller models or a lower --precision"
    return ValueError(
        f"batch_size: {batch} needs about {needed:,} bytes beyond the weights, {free:,} are free; {advice}"
    )


def ran_out(batch: int, needed: int) -> ValueError:
    """The error for a batch that was estimated to fit and did not."""
    advice = f"try {batch // 2}" if batch > 1 else "take smaller models or a lower --precision"
    return ValueError(
        f"batch_size: {batch} ran out of memory, though about {needed:,} bytes for it were free; {advice}"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; on the CPU torch has no class for it."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
