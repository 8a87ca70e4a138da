"""The roofline: the least time that a machine takes for the bytes that must move and the operations that must be done.

Formulas and what is left out of them: docs/benchmarks.md. Those of a model's passes are its own, see
`sdvar.models.protocol.PassCosts`.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

import sdvar
from sdvar.decoding.timing import Pass, Stretch, now
from sdvar.models.cost import state_bytes
from sdvar.models.protocol import Cost

# On a GPU large enough that the launch does not count; on a CPU the copy exceeds the caches.
MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}
COPY_BYTES = {"cpu": 2**28, "cuda": 2**30}
LEAST_TRIES, LEAST_SECONDS = 3, 0.4


class Ceilings(NamedTuple):
    """The rates that a machine reaches.

    Attributes:
        bytes_per_second: of a large copy, read and written bytes together.
        operations_per_second: of a large matrix product, by dtype name such as "bfloat16".
    """

    bytes_per_second: float
    operations_per_second: dict[str, float]

    def seconds(self, cost: Cost, dtype: torch.dtype) -> float:
        """The longer of the time for the bytes and the time for the operations in that dtype."""
        return max(cost.bytes / self.bytes_per_second, cost.operations / self.operations_per_second[dtype_name(dtype)])


class Roofline:
    """The least time of the passes of a pair on a machine.

    Args:
        pair: the models.
        ceilings: of the machine.
    """

    def __init__(self, pair: sdvar.ModelPair, ceilings: Ceilings) -> None:
        self.pair, self.ceilings = pair, ceilings
        self._tokenizer_cost = functools.cache(functools.partial(tokenizer_cost, pair.tokenizer))

    def of_pass(self, work: Pass) -> tuple[Cost, float]:
        """Cost of a pass and its least time in seconds; for ``first == last`` of taking over class prefixes."""
        model = getattr(self.pair, work.model)
        if work.first == work.last:
            cost = model.cost().begin(work.rows)
        else:
            cost = model.cost().span(work.rows, work.first, work.last, work.visible_from, work.logits_from)
        return cost, self.ceilings.seconds(cost, model.dtype)

    def of_decode(self, stretches: Sequence[Stretch], batch: int, images: bool) -> dict[str, Any]:
        """Sums over one decode: seconds, also by part, bytes and operations.

        Args:
            stretches: of the decode.
            batch: its images.
            images: whether the tokenizer's decoder ran.
        """
        works = [(stretch.part, *self.of_pass(stretch.work)) for stretch in stretches if stretch.work is not None]
        if images:
            cost = self._tokenizer_cost(batch)
            works.append(("tokenizer", cost, self.ceilings.seconds(cost, self.pair.tokenizer.decoder_dtype)))
        parts: dict[str, float] = defaultdict(float)
        for part, _, least in works:
            parts[part] += least
        total = Cost(sum(cost.bytes for _, cost, _ in works), sum(cost.operations for _, cost, _ in works))
        return {"seconds": sum(parts.values()), "parts_seconds": dict(parts), **total._asdict()}


def measure_ceilings(device: torch.device, dtypes: Iterable[torch.dtype]) -> Ceilings:
    """Measures both rates in this process, the best of several tries each.

    Args:
        device: where the models are.
        dtypes: of the weights.
    """
    rates = {dtype_name(dtype): _matrix_rate(device, dtype) for dtype in dict.fromkeys(dtypes)}
    return Ceilings(_copy_rate(device), rates)


def tokenizer_cost(tokenizer: sdvar.VQVAE, images: int) -> Cost:
    """What the decoder takes at least for some images: its weights read, the images written, its products."""
    side, channels = tokenizer.pyramid.patch_nums[-1], tokenizer.latent_channels
    parts = (tokenizer.post_quant_conv, tokenizer.decoder)
    x = torch.empty(1, channels, side, side, dtype=tokenizer.decoder_dtype, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for part in parts:
            x = torch.func.functional_call(part, {k: value.to("meta") for k, value in part.state_dict().items()}, (x,))
    numbers = channels * side**2 + 3 * tokenizer.image_size**2
    moved = images * numbers * tokenizer.quantize.embedding.weight.itemsize
    return Cost(sum(map(state_bytes, parts)) + moved, images * counter.get_total_flops())


def dtype_name(dtype: torch.dtype) -> str:
    """ "bfloat16" for torch.bfloat16."""
    return str(dtype).removeprefix("torch.")


def _matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    side = MATRIX_SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    products: list[Callable[[], object]] = [lambda: torch.mm(a, b)]
    if device.type == "cpu" and dtype == torch.float32 and torch.backends.mkldnn.is_available():
        # torch.mm in float32 uses another library, which on some processors runs at half the speed
        products.append(lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], ""))
    return 2 * side**3 / min(_best_seconds(device, product) for product in products)


def _copy_rate(device: torch.device) -> float:
    source = torch.zeros(COPY_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    return 2 * source.numel() / _best_seconds(device, lambda: target.copy_(source))


def _best_seconds(device: torch.device, work: Callable[[], object]) -> float:
    work()
    taken: list[float] = []
    while len(taken) < LEAST_TRIES or sum(taken) < LEAST_SECONDS:
        started = now(device)
        work()
        taken.append(now(device) - started)
    return min(taken)
