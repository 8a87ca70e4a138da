"""How the models of a pair are run: attention kernel, CUDA graphs, compiler, the tokenizer's number format."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sdvar.models.attention import KERNELS, check_kernel
from sdvar.pair import ModelPair

TOKENIZER_DTYPES = ("float64", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Engine:
    """What changes the speed of decoding, and of its output the rounding alone.

    Args:
        attention: kernel of all attention, for draft and target alike: one of auto (the best on this machine), math,
            efficient, flash, products or flex.
        graphs: on a GPU, capture passes as CUDA graphs and replay them; without effect on a CPU.
        compile: run the transformer blocks by torch.compile; the first batches take minutes.
        tokenizer_dtype: name of the dtype of the tokenizer's decoder; None leaves it as loaded. F-hat, which the models
            see, keeps its own.

    Raises:
        ValueError: naming the argument.
    """

    attention: str = "auto"
    graphs: bool = False
    compile: bool = False
    tokenizer_dtype: str | None = None

    def __post_init__(self) -> None:
        for name, allowed in (("attention", KERNELS), ("tokenizer_dtype", (None, *TOKENIZER_DTYPES))):
            value = getattr(self, name)
            if value not in allowed:
                named = ", ".join(word for word in allowed if word)
                raise ValueError(f"{name}: expected one of {named}, got {value!r}")

    def check(self, pair: ModelPair, device: torch.device) -> None:
        """Raise ValueError if that device cannot run the attention kernel; the message lists those it can."""
        for model in (pair.draft, pair.target):
            check_kernel(self.attention, device, model.cache_dtype, model.width // model.heads)

    def apply(self, pair: ModelPair) -> ModelPair:
        """Run the pair this way from now on. Its models must be on their device already.

        Raises:
            ValueError: if this machine cannot run the attention kernel; the message lists those it can.
        """
        for model in (pair.draft, pair.target):
            model.set_attention(self.attention)
            model.graphs = self.graphs and pair.device.type == "cuda"
            if self.compile:
                model.compile_blocks()
        if self.tokenizer_dtype:
            pair.tokenizer.set_decoder_dtype(getattr(torch, self.tokenizer_dtype))
        return pair
