"""One model, its cache and its conditioning: "the guided logits of the scales a..b"; shared by all strategies."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from sdvar.decoding.logits import Logits
from sdvar.decoding.progress import ModelProgress
from sdvar.decoding.timing import Clock, Pass, timed
from sdvar.kernels.selection import fused_pick
from sdvar.models.protocol import NextScaleModel, Span
from sdvar.pyramid import ScalePyramid
from sdvar.rows import rows_of, to_device
from sdvar.sampling import Sampling


class Stepper:
    """Decodes with one model for a batch of images, each at its own scale.

    Args:
        name: "draft" or "target".
        model: the model.
        classes: B of them.
        seeds: int64 (B,) on the model's device.
        sampling: how tokens are drawn.
        progress: how far the model is with each image; the stepper advances it.
        clock: measures the time of the passes, if given.

    Attributes:
        unchecked: of each pass since `check_finite` the images, the first scale and whether the logits are finite, bool
            (n, tokens).

    The cache has scale 0 from the start, which follows from the class.
    """

    def __init__(
        self,
        name: str,
        model: NextScaleModel,
        classes: Sequence[int],
        seeds: Tensor,
        sampling: Sampling,
        progress: Sequence[ModelProgress],
        clock: Clock | None = None,
    ) -> None:
        self.name, self.model, self.progress, self.clock = name, model, progress, clock
        self.pyramid, self.sampling, self.seeds = model.pyramid, sampling, seeds
        self.fused_pick = fused_pick(model.device, model.logits_dtype, model.codebook_size)
        self.guided_scales = model.guided_scales(sampling)
        self.workspace = model.workspace(len(progress), guided=self.guided_scales > 0)
        self.visible_from = 0
        self.unchecked: list[tuple[list[int], int, Tensor]] = []
        scales = range(len(self.pyramid))
        guidance = tuple(sampling.guidance(k, len(self.pyramid)) for k in scales)
        temperature = tuple(sampling.temperature_at(k) for k in scales)
        kind = self.pyramid, model.logits_dtype, model.device
        self._guidance = _per_position(guidance, *kind)
        self._temperature = _per_position(temperature, *kind) if any(value != 1 for value in temperature) else None
        images = range(len(progress))
        with timed(clock, name, work=Pass(name, self.workspace.rows, 0, 0, 0, 0)):
            self._first = self.workspace.begin(classes)
        self.hold(images, 1)

    def start_blind(self, scale: int) -> None:
        """Begin at ``scale`` with nothing before it visible (only to compare; no model was trained on this)."""
        if scale:  # nothing is before the first one
            self.visible_from = scale
            self.hold(range(len(self.progress)), scale)

    def hold(self, images: Sequence[int], scales: int) -> None:
        """Count the first ``scales`` scales as cached, whatever the cache contains; to time a pass by itself."""
        for i in images:
            self.progress[i].cached = self.progress[i].null_cached = scales

    def truncate(self, images: Sequence[int], scale: int) -> None:
        """Forget the scales from ``scale`` on; a counter moves, nothing is copied."""
        for i in images:
            self.progress[i].cached = min(self.progress[i].cached, scale)
            self.progress[i].null_cached = min(self.progress[i].null_cached, scale)

    def logits(self, images: Sequence[int], inputs: Tensor, first: int, last: int, wanted_from: int) -> Tensor:
        """As `run`, the guided logits alone: (n, tokens of the scales wanted_from <= k < last, V)."""
        return self.run(images, inputs, first, last, wanted_from).guided

    def run(
        self,
        images: Sequence[int],
        inputs: Tensor,
        first: int,
        last: int,
        wanted_from: int,
        drafted: Sequence[Tensor] = (),
    ) -> Logits:
        """Guided, temperature-scaled logits of a span of scales in one pass, with the tokens where a kernel picks them.

        The null branch runs for all scales of the pass if any from ``wanted_from`` on is guided, or a scale after it.
        No decode goes back to scales before the first one whose logits it wants, so none will miss it.

        Args:
            images: n ascending image numbers, all with exactly the scales before ``first`` in their cache.
            inputs: (n, tokens of the scales first <= k < last without scale 0, C_vae).
            first, last: the span that the pass processes, from scale 1 on.
            wanted_from: first scale whose logits are returned.
            drafted: int64 (n, n_k) of each scale from ``wanted_from`` on that a kernel is to compare with its picks.

        Returns:
            Those of the scales wanted_from <= k < last.
        """
        null = wanted_from < self.guided_scales
        cached = {i: self.progress[i].null_cached if null else self.progress[i].cached for i in images}
        if set(cached.values()) != {first}:
            raise RuntimeError(f"pass from scale {first}: expected as many cached scales of each image, got {cached}")
        span = Span(first, last, self.visible_from, wanted_from)
        work = Pass(self.name, len(images) * (2 if null else 1), *span)
        with timed(self.clock, self.name, first, last, work):
            raw = self.workspace.run(images, inputs, span, null)
            logits = None if self.fused_pick else self._read(raw, images, wanted_from, last)
        for i in images:
            self.progress[i].cached = last
            if null:
                self.progress[i].null_cached = last
            self.progress[i].calls += 1
            self.progress[i].tokens += self.pyramid.span_tokens(first, last)
        if logits is not None:
            return logits
        with timed(self.clock, "sampling", wanted_from, last):
            return self._read(raw, images, wanted_from, last, drafted)

    @functools.cached_property
    def first_logits(self) -> Logits:
        """Of scale 0 of all images. No pass makes them."""
        return self._read(self._first, range(len(self.progress)), 0, 1)

    def all_logits(self, inputs: Tensor) -> list[Tensor]:
        """Teacher forcing: the guided logits of all scales of all images in one pass, K tensors (B, n_k, V).

        Args:
            inputs: (B, L - n_0, C_vae), see `VQVAE.var_inputs`.
        """
        images, scales = range(len(self.progress)), len(self.pyramid)
        self.truncate(images, 1)
        logits = [self.logits(images, inputs, 1, scales, wanted_from=1)] if scales > 1 else []
        return [self.first_logits.guided, *(part for each in logits for part in self.pyramid.split(each, 1, scales))]

    def _read(
        self, raw: Tensor, images: Sequence[int], first: int, last: int, drafted: Sequence[Tensor] = ()
    ) -> Logits:
        """What a model's own logits of the scales ``first`` <= k < ``last`` say."""
        if self.fused_pick:
            return self._pick(raw, images, first, last, drafted)
        guided = self._guide(raw, images, self.pyramid.span(first, last))
        self._note(images, first, guided.isfinite().all(-1))
        return Logits(lambda: guided)

    def _guide(self, logits: Tensor, images: Sequence[int], positions: slice) -> Tensor:
        """What guidance and temperature make of a model's logits, of one branch or both."""
        if len(logits) > len(images):
            of_class, of_null = logits.chunk(2)
            t = self._guidance[positions]
            logits = (1 + t) * of_class - t * of_null
        return logits if self._temperature is None else logits / self._temperature[positions]

    def _pick(self, raw: Tensor, images: Sequence[int], first: int, last: int, drafted: Sequence[Tensor]) -> Logits:
        """Pick the tokens of the scales ``first`` <= k < ``last`` by one kernel."""
        assert self.fused_pick
        seeds = self.seeds[rows_of(images, range(len(self.progress)), self.seeds.device)]
        positions = self.pyramid.span(first, last)
        together = torch.cat(list(drafted), dim=1) if drafted else None
        table = self._positions if len(raw) > len(images) else self._positions._replace(guidance=None)
        picked = self.fused_pick(
            raw, table, positions.start, seeds, self.sampling, together, drafted_scales=len(drafted)
        )
        self._note(images, first, picked.finite)
        return Logits(lambda: self._guide(raw, images, positions), picked.tokens, picked.agreed)

    @functools.cached_property
    def _positions(self) -> Any:
        from sdvar.kernels.pick import Positions  # needs Triton

        scales, places = self.pyramid.addresses(self.seeds.device)
        return Positions(scales, places, self._guidance, self._temperature)

    def _note(self, images: Sequence[int], scale: int, finite: Tensor) -> None:
        """Keep whether the logits of these images from ``scale`` on are finite, bool (n, tokens)."""
        self.unchecked.append((list(images), scale, finite))
        if finite.device.type == "cpu":
            self.check_finite()

    def check_finite(self) -> None:
        """As the function of this name, of this model alone."""
        check_finite([self])


def check_finite(steppers: Iterable[Stepper]) -> None:
    """Raise ValueError if a logit so far was NaN or infinite, naming model, scale and image of the first.

    A pick among NaN goes on as if it were a token. On a GPU this is asked once per decode and not after each pass,
    since the answer makes the host wait.
    """
    asked = [(stepper, *entry) for stepper in steppers for entry in stepper.unchecked]
    for stepper in steppers:
        stepper.unchecked = []
    if not asked or bool(torch.cat([finite.flatten() for *_, finite in asked]).all()):
        return
    stepper, images, first, finite = next(entry for entry in asked if not entry[-1].all())
    row, position = (~finite).nonzero()[0].tolist()
    scale = int(stepper.pyramid.scale_of_position(first, len(stepper.pyramid))[position])
    raise ValueError(
        f"the {stepper.name} model's logits are NaN or infinite at scale {scale} of image {images[row]} of the batch; "
        "check its weights (python -m sdvar.checkpoints inspect), the guidance, and the dtype: float16 overflows "
        "where bfloat16 does not"
    )


@functools.lru_cache(maxsize=64)
def _per_position(
    of_scales: tuple[float, ...], pyramid: ScalePyramid, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """(L, 1) on the device from one number per scale."""
    with torch.inference_mode(False):  # for decodes in every mode
        numbers = torch.tensor(of_scales, dtype=dtype)
        repeated = numbers.repeat_interleave(torch.tensor(pyramid.tokens), output_size=pyramid.length)
        return to_device(repeated[:, None], device)
