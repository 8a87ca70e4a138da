"""One model, its cache and its conditioning: "the guided logits of the scales a..b"; shared by all strategies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sdvar.decoding.timing import Clock, Pass, timed
from sdvar.models.protocol import NextScaleModel
from sdvar.sampling import Sampling


class Stepper:
    """Decodes with one model for a batch of images that may stand at different scales.

    Args:
        name: "draft" or "target", for messages.
        model: the model.
        labels: int64 (B,) on the model's device.
        sampling: supplies guidance and temperature.
        clock: takes the times of the passes, if given.

    Attributes:
        cached: scales in each image's cache, all computed from committed inputs unless the caller says otherwise by
            ``truncate``.
        calls, tokens: passes and positions so far, per image.
    """

    def __init__(
        self, name: str, model: NextScaleModel, labels: Tensor, sampling: Sampling, clock: Clock | None = None
    ) -> None:
        self.name = name
        self.clock = clock
        self.model = model
        self.pyramid = model.pyramid
        self.batch = labels.shape[0]
        self.guided = sampling.cfg != 0  # without guidance there is no null branch
        self.workspace = model.workspace(self.batch, self.guided)
        with timed(clock, name, work=Pass(name, self.workspace.rows, 0, 0, 0, 0)):
            self.workspace.begin(labels)
        self.visible_from = 0
        self.cached = [0] * self.batch
        self.calls = [0] * self.batch
        self.tokens = [0] * self.batch
        self._finite: list[tuple[list[int], int, Tensor]] = []  # a pass's images, first scale and (n, tokens) bool
        scales = range(len(self.pyramid))
        counts = torch.tensor(self.pyramid.tokens)
        dtype = model.logits_dtype
        guidance = torch.tensor([sampling.guidance(k, len(self.pyramid)) for k in scales], dtype=dtype)
        temperature = torch.tensor([sampling.temperature_at(k) for k in scales], dtype=dtype)
        self._guidance = guidance.repeat_interleave(counts)[:, None].to(labels.device)  # (L, 1)
        self._temperature = None
        if not bool((temperature == 1).all()):
            self._temperature = temperature.repeat_interleave(counts)[:, None].to(labels.device)

    def start_blind(self, scale: int) -> None:
        """Begin at ``scale`` with nothing before it visible (only to compare; no model was trained on this)."""
        self.visible_from = scale
        self.hold(range(self.batch), scale)

    def hold(self, images: Sequence[int], scales: int) -> None:
        """Count the first ``scales`` scales as cached, whatever the cache contains; to measure a pass by itself."""
        for i in images:
            self.cached[i] = scales

    def truncate(self, image: int, scale: int) -> None:
        """Forget the scales from ``scale`` on; a counter moves, nothing is copied."""
        self.cached[image] = min(self.cached[image], scale)

    def logits(self, images: Sequence[int], inputs: Tensor, first: int, last: int, wanted_from: int) -> Tensor:
        """Guided, temperature-scaled logits of a span of scales in one pass.

        Args:
            images: n ascending image numbers, all with exactly the scales before ``first`` in their cache.
            inputs: (n, tokens of the scales first <= k < last without scale 0, C_vae).
            first, last: the span that the pass processes.
            wanted_from: first scale whose logits are returned.

        Returns:
            (n, tokens of the scales wanted_from <= k < last, V).
        """
        behind = [i for i in images if self.cached[i] != first]
        if behind:
            raise RuntimeError(
                f"pass from scale {first}, but images {behind} have {[self.cached[i] for i in behind]} cached"
            )
        work = Pass(self.name, len(images) * (2 if self.guided else 1), first, last, self.visible_from, wanted_from)
        with timed(self.clock, self.name, first, last, work):
            logits = self._guided_logits(images, inputs, first, last, wanted_from)
        for i in images:
            self.cached[i] = last
            self.calls[i] += 1
            self.tokens[i] += self.pyramid.span_tokens(first, last)
        return logits

    def _guided_logits(self, images: Sequence[int], inputs: Tensor, first: int, last: int, wanted_from: int) -> Tensor:
        logits = self.workspace.run(images, inputs, first, last, self.visible_from, wanted_from)
        positions = self.pyramid.span(wanted_from, last)
        if self.guided:
            of_class, of_null = logits.chunk(2)
            t = self._guidance[positions]
            logits = (1 + t) * of_class - t * of_null
        if self._temperature is not None:
            logits = logits / self._temperature[positions]
        self._finite.append((list(images), wanted_from, logits.isfinite().all(-1)))
        if logits.device.type == "cpu":
            self.check_finite()
        return logits

    def check_finite(self) -> None:
        """Raise ValueError if a logit so far was NaN or infinite, naming scale and image of the first.

        A pick among NaN goes on as if it were a token. On a GPU this is asked once a decode and not after each pass,
        since the answer makes the host wait.
        """
        asked, self._finite = self._finite, []
        if not asked or bool(torch.stack([finite.all() for *_, finite in asked]).all()):
            return
        images, first, finite = next(entry for entry in asked if not entry[2].all())
        row, position = (~finite).nonzero()[0].tolist()
        scale = int(self.pyramid.scale_of_position(first, len(self.pyramid))[position])
        raise ValueError(
            f"the {self.name} model's logits are NaN or infinite at scale {scale} of image {images[row]} of the batch; "
            "check its weights (python -m sdvar.checkpoints inspect), the guidance, and the dtype: float16 overflows "
            "where bfloat16 does not"
        )
