"""What decoding, planning, memory estimates and the roofline need of a model, and nothing else.

`sdvar.models.transformer.VAR` is one such model. Another next-scale transformer is a class of its own that derives from
`sdvar.models.running.base.NextScaleBase` and has the members of `NextScaleModel`; no other file changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from sdvar.pyramid import ScalePyramid
from sdvar.sampling import Sampling


class Cost(NamedTuple):
    """What one pass takes at least.

    Attributes:
        bytes: read and written.
        operations: in floating point; a multiplication and an addition are two.
    """

    bytes: int
    operations: int


class PassCosts(Protocol):
    """The costs of a model's passes, by its sizes alone. ``rows`` count the guidance branches."""

    def class_prefix(self, classes: int) -> Cost:
        """Of `NextScaleModel.condition` and the pass over scale 0 of so many classes."""

    def class_prefix_bytes(self) -> int:
        """Bytes that the prefix of one class takes."""

    def begin(self, rows: int) -> Cost:
        """Of taking over the class prefixes of so many rows."""

    def span(self, rows: int, first: int, last: int, visible_from: int = 0, logits_from: int | None = None) -> Cost:
        """Of `NextScaleModel.forward_span` with these arguments."""

    def launches(self, first: int, last: int) -> int:
        """Kernels that such a pass launches on a GPU, about."""

    def cache_bytes(self, rows: int, tokens: int) -> int:
        """Bytes in the cache for ``tokens`` positions of each row."""

    def activation_bytes(self, rows: int, tokens: int) -> int:
        """Bytes that a pass over ``tokens`` positions of each row allocates at most, without its logits."""


class Span(NamedTuple):
    """The scales ``first`` <= k < ``last`` of one pass.

    Attributes:
        visible_from: first scale that may be attended to.
        logits_from: first scale whose logits are wanted; the others only fill the cache.
    """

    first: int
    last: int
    visible_from: int
    logits_from: int


# What the passes of some rows need of their classes: a NamedTuple of tensors, each with a row per row, (n, ...)
Conditioning = Any


class Cache(Protocol):
    """What passes leave for later passes. Truncating it is a counter of the caller: nothing is erased."""

    @property
    def nbytes(self) -> int: ...

    def head(self, rows: int) -> Cache:
        """The first rows, in the same memory."""

    def copy(self, rows: Tensor | slice, source: Any, source_rows: Tensor, positions: int) -> None:
        """Take over the first ``positions`` positions of ``source_rows`` of another cache into ``rows``."""

    def read(self, rows: Sequence[int], positions: slice) -> tuple[Tensor, ...]:
        """What it contains for some rows and positions; only read to check it."""


class Workspace(Protocol):
    """Runs the passes of one decode with one model.

    Attributes:
        rows: rows of the batch, guidance branches counted.
        cache: of all rows.
    """

    @property
    def rows(self) -> int: ...

    @property
    def cache(self) -> Cache: ...

    def begin(self, classes: Sequence[int]) -> Tensor:
        """Start a decode of B images of these classes.

        Returns:
            (B, n_0, V) logits of scale 0; with guidance (2B, …), the null branch after the class branch. The cache has
            scale 0 from then on.
        """

    def run(self, images: Sequence[int], inputs: Tensor, span: Span, null: bool) -> Tensor:
        """Logits of one guidance branch or both for some images.

        Args:
            images: n ascending image numbers of the batch.
            inputs: (n, tokens, C_vae), see `NextScaleModel.forward_span`; the branches share them.
            span: the scales.
            null: whether the null branch runs too; not where the workspace was made without guidance.

        Returns:
            (n, tokens of the scales with logits, V); with the null branch (2n, …), it after the class branch. These 2n
            are overwritten by the next pass.
        """


@runtime_checkable
class NextScaleModel(Protocol):
    """A model that gives the logits of whole scales.

    Attributes:
        graphs: whether passes are replayed as CUDA graphs where that gains; groups of images are then padded to
            powers of two.
        capture_seconds: time spent on capturing graphs so far.
        guidance_inside: the guidance that it was distilled to give by itself, as cfg and cfg_until of a sampling; None
            where guidance takes a null branch.
    """

    graphs: bool
    capture_seconds: float
    guidance_inside: Sampling | None

    @property
    def prefixes(self) -> Any:
        """Its `sdvar.models.running.class_prefix.ClassPrefixes`."""

    def graph_state(self) -> Any:
        """Changes with the device, the dtype and the kernels; to be compared."""

    def block_kernels(self, device: torch.device) -> Any:
        """The kernels of the project's own by which its blocks run on a device; None: torch's operations."""

    @property
    def pyramid(self) -> ScalePyramid: ...

    @property
    def num_classes(self) -> int:
        """Classes; the label ``num_classes`` is the null class of guidance."""

    @property
    def codebook_size(self) -> int:
        """V, of the logits."""

    @property
    def latent_channels(self) -> int:
        """C_vae, of the inputs."""

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype:
        """Of most products and of the cache."""

    @property
    def logits_dtype(self) -> torch.dtype:
        """Of the logits: float32 or float64."""

    def cost(self) -> PassCosts:
        """What its passes cost."""

    def weight_bytes(self) -> int:
        """Bytes of its weights and buffers, and of the copies that it has made of them."""

    def pending_bytes(self) -> int:
        """Bytes of the copies of weights that its first passes are still to make."""

    def condition(self, labels: Tensor) -> Any:
        """All that later passes need of the class: labels int64 (n,) -> a `Conditioning` of n rows."""

    def new_cache(self, rows: int, scales: int | None = None) -> Any:
        """An empty `Cache` for the first ``scales`` scales, or all."""

    def forward_span(
        self,
        conditioning: Any,
        inputs: Tensor,
        first: int,
        last: int,
        cache: Any = None,
        rows: Tensor | None = None,
        visible_from: int = 0,
        logits_from: int | None = None,
    ) -> Tensor:
        """Logits of the scales ``first`` <= k < ``last`` in one pass.

        Logits of a scale depend on the class, and on the inputs of that scale and of those before it, from
        ``visible_from`` on. Lossless decoding is exact to the bit if neither the cut into passes nor the rows of a pass
        change the rounding of an image's logits.

        Args:
            conditioning: of the n rows, from `condition`.
            inputs: (n, tokens of those scales without scale 0, C_vae), see VQVAE.var_inputs.
            cache: from `new_cache`; contains the scales ``visible_from`` .. ``first`` and receives those of the span.
                Without one, ``first`` must equal ``visible_from``.
            rows: int64 (n,) rows of the cache that the pass uses; None for all.
            visible_from: first scale that may be attended to.
            logits_from: first scale whose logits are wanted (``first`` if None); the others only fill the cache.

        Returns:
            (n, tokens of the scales from ``logits_from``, V) in ``logits_dtype``.
        """

    def guided_scales(self, sampling: Sampling) -> int:
        """The scales up to the last one whose passes run a null branch; 0 if none does."""

    def workspace(self, images: int, guided: bool) -> Workspace:
        """What a decode of B images works in."""

    def hand_back(self, workspace: Any) -> None:
        """Take back a workspace that is no longer used."""

    def release(self) -> None:
        """Free the memory that is kept for the next decode."""

    def check_attention(self, kernel: str, device: torch.device) -> None:
        """Raise ValueError unless that device can run the attention kernel; the message lists those it can."""

    def set_attention(self, kernel: str) -> Any:
        """Run attention by one kernel from now on. Raises as `check_attention` does."""
