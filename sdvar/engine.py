"""How models run: attention kernel, CUDA graphs, dtypes, threads, TF32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from sdvar.arguments import check_bool, check_int
from sdvar.drafts import others
from sdvar.models.dtypes import DTYPES
from sdvar.models.layers.attention import KERNELS
from sdvar.models.quantized import check_layers
from sdvar.models.running.class_prefix import MOST_BYTES
from sdvar.models.tokenizer import VQVAE
from sdvar.pair import ModelPair

TOKENIZER_DTYPES = tuple(DTYPES)


@dataclass(frozen=True)
class Engine:
    """What changes the speed of decoding, and of its output the rounding alone.

    Args:
        attention: kernel of all attention, for draft and target alike: one of auto (the best on this machine), math,
            efficient, flash or products.
        graphs: on a GPU, capture passes as CUDA graphs and replay them; without effect on a CPU.
        tokenizer_dtype: name of the dtype of the tokenizer's decoder; None is float16 on a GPU for one loaded in
            float32, else as loaded. Pixels alone depend on it: f-hat, which the models see, keeps its own.
        threads: CPU threads of the process; None leaves them as they are. The last bits of pixels may
            depend on it.
        prefix_bytes: memory per model for class prefixes, what it makes of a class before any token. Classes beyond it
            are computed again when they come up; 0 keeps none.
        tf32: let a GPU round the factors of float32 products to TF32 while decoding: faster, 10 bits instead of 23.

    Raises:
        ValueError, TypeError: naming the argument.
    """

    attention: str = "auto"
    graphs: bool = False
    tokenizer_dtype: str | None = None
    threads: int | None = None
    prefix_bytes: int = MOST_BYTES
    tf32: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("attention", KERNELS), ("tokenizer_dtype", (None, *TOKENIZER_DTYPES))):
            value = getattr(self, name)
            if value not in allowed:
                named = ", ".join(word for word in allowed if word)
                raise ValueError(f"{name}: expected one of {named}, got {value!r}")
        for name in ("graphs", "tf32"):
            check_bool(name, getattr(self, name))
        if self.threads is not None:
            check_int("threads", self.threads, least=1)
        check_int("prefix_bytes", self.prefix_bytes, least=0)

    def check(self, pair: ModelPair, device: torch.device) -> None:
        """Raise ValueError if the device cannot run the attention kernel or the draft; the message lists what can."""
        check_layers(pair.draft, device, others(pair.draft.dtype))
        for model in (pair.draft, pair.target):
            model.check_attention(self.attention, device)

    def apply(self, pair: ModelPair) -> ModelPair:
        """Run the pair this way from now on. Its models must be on their device already.

        Threads and TF32 belong to the process, not to the pair: decode within `numerics` for them.

        Raises:
            ValueError: if this machine cannot run the attention kernel or the draft; the message lists those it can.
        """
        check_layers(pair.draft, pair.device, others(pair.draft.dtype))
        for model in (pair.draft, pair.target):
            model.set_attention(self.attention)
            model.prefixes.most_bytes = self.prefix_bytes
            model.graphs = self.graphs and pair.device.type == "cuda"
        pair.tokenizer.set_decoder_dtype(self.decoder_dtype(pair.tokenizer, pair.device))
        return pair

    def decoder_dtype(self, tokenizer: VQVAE, device: torch.device) -> torch.dtype:
        """In which dtype the tokenizer's decoder is to run on a device.

        On a GPU both 16-bit formats take less time than float32 (the roofline's claim; no GPU has shown it here).
        float16 rounds eight times more finely than bfloat16, whose pixels differ by several grey levels, see
        docs/benchmarks.md.
        """
        if self.tokenizer_dtype:
            return DTYPES[self.tokenizer_dtype]
        loaded = tokenizer.decoder_dtype
        return torch.float16 if device.type == "cuda" and loaded == torch.float32 else loaded

    @contextmanager
    def numerics(self) -> Iterator[None]:
        """Within a block of code, the threads and TF32 of this engine; what was set before is put back."""
        before = torch.get_num_threads()
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        try:
            with tf32_allowed(self.tf32):
                yield
        finally:
            if self.threads is not None:
                torch.set_num_threads(before)


@contextmanager
def tf32_allowed(allowed: bool) -> Iterator[None]:
    """Within a block of code, float32 products and convolutions with or without TF32; the old setting is put back.

    By default torch allows it for convolutions: then their results depend on the algorithm that it selects by shape.

    Args:
        allowed: whether the factors may be rounded to TF32 (10 bits instead of 23). No effect on a CPU.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    # Not the newer fp32_precision: set to tf32, torch.get_float32_matmul_precision, which Lightning reads, fails
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
