"""Memory: an estimate of the bytes that a decode takes beyond the weights, what is free, and the measured peak."""

from __future__ import annotations

import ctypes
import gc
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import torch

import sdvar
from lightning_modules.arms.arm import is_auto
from sdvar.kernels.selection import fused_pick
from sdvar.models.cost import pending_bytes
from sdvar.models.protocol import NextScaleModel
from sdvar.models.running.cuda_graphs import graph_bytes
from sdvar.models.running.workspace import branches
from sdvar.system.memory import out_of_memory_says

LARGEST_BATCH = 256  # that "auto" tries
# Bytes per number of the guided logits of the widest scale, while they are filtered and picked from: the logits of
# both branches, the guided ones, their copies in the filters, and the generator's 64-bit words. Measured, rounded up.
PICK_BYTES = 128
GUIDANCE_COPIES = 3  # of the guided logits, while they are made
# Feature maps at full resolution and width in the tokenizer's decoder at once, its convolutions' workspace counted.
TOKENIZER_MAPS = 10
_STATUS, _REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def decode_bytes(pair: sdvar.ModelPair, strategy: sdvar.Strategy, batch: int, images: bool = True) -> int:
    """Bytes that decoding a batch takes beyond the weights, estimated on the safe side.

    Args:
        pair: the models.
        strategy: a Baseline runs a scale at a time, any other up to all scales in one pass.
        batch: images.
        images: whether the tokenizer's decoder runs.
    """
    plain, models = isinstance(strategy, sdvar.Baseline), strategy.models_of(pair)
    pyramid, vocabulary = pair.pyramid, pair.target.codebook_size
    rows = [batch * branches(model.guidance_inside is None) for model in models]
    kept, passing = _sampling_bytes(pair, strategy, batch)
    widest = max(pyramid.tokens) if plain else pyramid.length
    number = models[-1].logits_dtype.itemsize
    costs = [model.cost() for model in models]
    caches = sum(cost.cache_bytes(n, pyramid.length) for cost, n in zip(costs, rows))
    hidden = max(cost.activation_bytes(n, widest) for cost, n in zip(costs, rows))
    raw = max(rows) * widest * vocabulary * number
    decoder = _tokenizer_bytes(pair.tokenizer, batch) if images else 0
    copies = sum(model.pending_bytes() for model in models) + (pending_bytes(pair.tokenizer.decoder) if images else 0)
    graphs = sum(graph_bytes(model, batch, model.guidance_inside is None) for model in models if model.graphs)
    prefixes = sum(map(_prefix_bytes, models)) + sum(n * cost.class_prefix_bytes() for cost, n in zip(costs, rows))
    return caches + copies + graphs + prefixes + kept + max(hidden + raw, raw + passing, decoder)


def _sampling_bytes(pair: sdvar.ModelPair, strategy: sdvar.Strategy, batch: int) -> tuple[int, int]:
    """Bytes between the logits and the tokens: those that are kept from pass to pass, and those of one pass at most."""
    pyramid, model = pair.pyramid, strategy.models_of(pair)[-1]
    whole = batch * pyramid.length * model.codebook_size * model.logits_dtype.itemsize
    widest = batch * max(pyramid.tokens) * model.codebook_size * PICK_BYTES
    if not fused_pick(pair.device, model.logits_dtype, model.codebook_size):
        return 0 if isinstance(strategy, sdvar.Baseline) else whole, widest  # noise is kept for later rounds
    rule = getattr(strategy, "acceptance", None)
    exact = type(rule) is sdvar.Coupled and not is_auto(strategy)  # "auto" reads logits to measure agreement
    if exact or isinstance(strategy, sdvar.Baseline | sdvar.Handoff | sdvar.Parallel):
        return 0, 0  # the kernel reads the model's own logits and writes tokens
    return whole if getattr(rule, "needs_draft_distribution", True) else 0, GUIDANCE_COPIES * whole + widest


def _prefix_bytes(model: NextScaleModel) -> int:
    """Bytes that the class prefixes of all classes take beyond those that are kept already."""
    every = (model.num_classes + 1) * model.cost().class_prefix_bytes()
    return max(0, min(every, model.prefixes.most_bytes) - model.prefixes.nbytes)


def _tokenizer_bytes(tokenizer: sdvar.VQVAE, batch: int) -> int:
    weight = tokenizer.decoder.conv_out.weight
    together = min(batch, tokenizer.decoded_together)
    return together * TOKENIZER_MAPS * weight.shape[1] * tokenizer.image_size**2 * weight.element_size()


def free_bytes(device: torch.device) -> int:
    """Bytes that the device can still give this process."""
    if device.type == "cuda":
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserved
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
        free: bytes that are available.
    """
    batch = LARGEST_BATCH
    while batch and needed(batch) > free:
        batch //= 2
    return batch


def check_batch(batch: int, needed: Callable[[int], int], free: int) -> None:
    """Raises ValueError, naming the bytes and a batch that fits, unless the batch fits; see `largest_batch`."""
    if needed(batch) > free:
        advice = _advice(largest_batch(needed, free), "not even 1 fits: use smaller models or a lower --precision")
        raise ValueError(
            f"batch_size: {batch} needs about {needed(batch):,} bytes beyond the weights, {free:,} are free; {advice}"
        )


def smaller_batch(batch: int, needed: Callable[[int], int], free: int) -> str:
    """What to do when a batch ran out of memory, in words; see `largest_batch`."""
    return (
        f"batch_size: {batch} ran out of memory; it needs about {needed(batch):,} bytes beyond the weights, {free:,} "
        f"are free; {_advice(min(largest_batch(needed, free), batch // 2))}. What is finished is kept"
    )


def measuring() -> AbstractContextManager[None]:
    """Within it, a run is measured: running out of memory is a ValueError that says how to go on."""
    return out_of_memory_says(
        "metrics: measuring ran out of memory; all images are kept. Free some, or measure less: python "
        "eval/measure.py --out RUN with fewer --metrics, or --likelihood_images 10 where nll takes it"
    )


def _advice(fitting: int, none: str = "use smaller models or a lower --precision") -> str:
    return f"{fitting} fits" if fitting else none


def naming_the_batch(batch: int, needed: Callable[[int], int]) -> AbstractContextManager[None]:
    """Within it, running out of memory is a ValueError that names the batch. See `largest_batch`."""
    advice = f"try {batch // 2}" if batch > 1 else "use smaller models or a lower --precision"
    return out_of_memory_says(
        f"batch_size: {batch} ran out of memory, though about {needed(batch):,} bytes for it were free; {advice}"
    )


def peak_bytes(device: torch.device, work: Callable[[], object]) -> int | None:
    """Peak memory of some work, in bytes beyond what was in use before it.

    On CUDA what torch allocated. On a CPU resident memory, by Linux's high-water mark, which can be reset; None on
    other systems.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # the C library keeps freed memory; the run would reuse it and seem to take none
        trim(0)
    try:
        _REFS.write_text("5")
        before = resident_bytes("VmRSS")
        work()
        return max(0, resident_bytes("VmHWM") - before)
    except OSError:
        return None


def resident_bytes(name: str) -> int:
    """Memory of this process by its name in Linux's /proc/self/status, such as "VmRSS"; OSError on other systems."""
    return 1024 * int(re.search(rf"{name}:\s+(\d+) kB", _STATUS.read_text())[1])
