"""The state of one decode: committed token maps, f-hat, the noise, and the two models' steppers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from sdvar import noise
from sdvar.decoding.acceptance import Proposal
from sdvar.decoding.logits import Logits, joined
from sdvar.decoding.progress import Progress
from sdvar.decoding.result import DecodeStats, ScaleCounts
from sdvar.decoding.stepper import Stepper, check_finite
from sdvar.decoding.timing import Clock, timed
from sdvar.models.layers.linear import product
from sdvar.models.quantizer import MultiScaleQuantizer
from sdvar.pair import ModelPair
from sdvar.rows import rows_of
from sdvar.sampling import Sampling, pick, smooth_weights

Key = TypeVar("Key", bound=Hashable)

# Numbers made at once; they take 32 bytes each while they are made.
NOISE_TOGETHER = defaultdict(lambda: 1 << 24, cpu=0)


class TokenMaps:
    """Committed token maps of a batch and what follows from them. The only place where a scale is committed.

    Args:
        quantizer: of the tokenizer.
        batch: B.

    Attributes:
        progress: of each image; a commit advances ``committed``.
        tokens: int64 (B, L).
        f_hat: (B, C_vae, S, S) of the committed scales; the last scale is left out unless its code was given.
        inputs: (B, L, C_vae) input of every scale up to the next one; the positions of scale 0 are unused.
    """

    def __init__(self, quantizer: MultiScaleQuantizer, batch: int) -> None:
        self.quantizer = quantizer
        self.pyramid = quantizer.pyramid
        self.progress = [Progress() for _ in range(batch)]
        self.f_hat = quantizer.empty_f_hat(batch)
        self.tokens = torch.zeros(batch, self.pyramid.length, dtype=torch.int64, device=self.f_hat.device)
        self.inputs = self.f_hat.new_zeros(batch, self.pyramid.length, quantizer.channels)

    def rows(self, images: Sequence[int]) -> Tensor | slice:
        """Selects ascending ``images`` from a tensor of the batch."""
        return rows_of(images, range(len(self.progress)), self.tokens.device)

    def commit(self, images: Sequence[int], scale: int, tokens: Tensor, code: Tensor | None = None) -> None:
        """Commit token maps of ``scale``: f-hat is updated, the next scale's input made.

        Args:
            images: n image numbers, all at ``scale``.
            scale: scale number.
            tokens: int64 (n, n_k).
            code: (n, n_k, C_vae) vectors that enter f-hat instead of the tokens' codebook vectors.
        """
        rows = self._write(images, scale, tokens)
        last = scale + 1 == len(self.pyramid)
        if code is not None or not last:  # no input follows the last scale, and the image is decoded from the tokens
            code = self.quantizer.embedding(tokens) if code is None else code
            f_hat = self.quantizer.added(self.f_hat[rows], code, scale)
            self._go_on_with(rows, f_hat)
        if not last:
            self.inputs[rows, self.pyramid.span(scale + 1, scale + 2)] = self.quantizer.next_input(f_hat, scale + 1)

    def adopt(self, images: Sequence[int], scale: int, tokens: Tensor, f_hat: Tensor, inputs: Tensor) -> None:
        """As `commit` of a scale that is not the last one, with what follows from the tokens given.

        Args:
            images, scale, tokens: as of `commit`.
            f_hat: (n, C_vae, S, S) after the scale. The maps may go on with this very tensor.
            inputs: (n, n_k, C_vae) of the next scale.
        """
        rows = self._write(images, scale, tokens)
        self._go_on_with(rows, f_hat)
        self.inputs[rows, self.pyramid.span(scale + 1, scale + 2)] = inputs

    def _go_on_with(self, rows: Tensor | slice, f_hat: Tensor) -> None:
        if isinstance(rows, slice):  # all images
            self.f_hat = f_hat
        else:
            self.f_hat[rows] = f_hat

    def _write(self, images: Sequence[int], scale: int, tokens: Tensor) -> Tensor | slice:
        """Commit the tokens alone; returns what selects the images."""
        committed = {i: self.progress[i].committed for i in images}
        if set(committed.values()) != {scale}:
            raise RuntimeError(f"commit of scale {scale}: expected as many committed scales, got {committed}")
        rows = self.rows(images)
        self.tokens[rows, self.pyramid.span(scale, scale + 1)] = tokens
        for i in images:
            self.progress[i].committed = scale + 1
        return rows

    def place(self, scale: int) -> None:
        """Count ``scale`` scales of every image as committed, whatever the maps contain; to time a step by itself."""
        for image in self.progress:
            image.committed = scale

    def committed_inputs(self, images: Sequence[int], first: int, last: int) -> Tensor:
        """Inputs of the scales ``first`` <= k < ``last``, scale 0 left out: (n, tokens, C_vae)."""
        return self.inputs[self.rows(images), self.pyramid.span(max(first, 1), max(last, 1))]


class DecodeState:
    """One call of ``decode``: what every strategy works on.

    Args:
        pair: the models.
        labels: int64 (B,), on the CPU if the host is not to wait for them.
        seeds: int64 (B,) on the models' device.
        sampling: how tokens are drawn.
        clock: measures the time of the parts, if given.
    """

    def __init__(
        self, pair: ModelPair, labels: Tensor, seeds: Tensor, sampling: Sampling, clock: Clock | None = None
    ) -> None:
        self.pair = pair
        self.pyramid = pair.pyramid
        self.sampling = sampling
        self.labels = labels
        self.classes: list[int] = labels.tolist()
        self.seeds = seeds
        self.clock = clock
        self.batch = labels.shape[0]
        self.maps = TokenMaps(pair.tokenizer.quantize, self.batch)
        self.counts = ScaleCounts(len(self.pyramid))
        self._steppers: dict[str, Stepper] = {}
        self._gumbel: dict[int, Tensor] = {}

    def stepper(self, which: str) -> Stepper:
        """The stepper of "draft" or "target", made when first asked for."""
        if which not in self._steppers:
            model, progress = getattr(self.pair, which), [image.of(which) for image in self.maps.progress]
            self._steppers[which] = Stepper(which, model, self.classes, self.seeds, self.sampling, progress, self.clock)
        return self._steppers[which]

    def gumbel(self, images: Sequence[int], scale: int, like: Tensor) -> Tensor:
        """The noise that picks the tokens of a scale: (n, n_k, V). Kept while an image may still ask for it."""
        committed = min(image.committed for image in self.maps.progress)
        for done in [k for k in self._gumbel if k < committed]:
            del self._gumbel[done]
        if scale not in self._gumbel:
            self._make_gumbel(scale, like.shape[-1], like.dtype)
        return self._gumbel[scale][self.maps.rows(images)]

    def _make_gumbel(self, scale: int, vocabulary: int, dtype: torch.dtype) -> None:
        """The noise of a scale and, on a GPU, of as many after it as are cheap to keep.

        The generator is some 200 small kernels, whose launches take longer than their work.
        """
        last, room = scale + 1, NOISE_TOGETHER[self.seeds.device.type] // (self.batch * vocabulary)
        while last < len(self.pyramid) and self.pyramid.span_tokens(scale, last + 1) <= room:
            last += 1
        counts = self.pyramid.tokens[scale:last]
        numbers = torch.cat([torch.arange(count, device=self.seeds.device) for count in counts])
        scales = torch.cat([torch.full_like(numbers[:count], k) for k, count in zip(range(scale, last), counts)])
        made = noise.gumbel(self.seeds, "pick", scales, numbers, vocabulary, dtype)
        self._gumbel |= dict(zip(range(scale, last), made.split(counts, dim=1)))

    def pick(self, images: Sequence[int], scale: int, logits: Tensor | Logits) -> Tensor:
        """Tokens of a scale from its guided logits (n, n_k, V): int64 (n, n_k)."""
        if isinstance(logits, Logits):
            if logits.picked is not None:
                return logits.picked
            logits = logits.guided
        with timed(self.clock, "sampling", scale, scale + 1):
            return pick(self.sampling.filtered(logits), self.gumbel(images, scale, logits))

    def next_logits(self, which: str, images: Sequence[int], guided: bool = False) -> Logits:
        """Logits of the next scale to commit, the same for all ``images``.

        A cache that is behind catches up in the same pass; images whose caches differ take separate passes. Scale 0
        takes none.

        Args:
            which: "draft" or "target".
            images: n image numbers.
            guided: whether the guided logits themselves are going to be read.
        """
        stepper, scale = self.stepper(which), self.maps.progress[images[0]].committed
        if scale == 0:
            return stepper.first_logits[self.maps.rows(images)]
        parts, order = [], []
        for first, group in grouped(images, lambda i: stepper.progress[i].cached):
            inputs = self.maps.committed_inputs(group, first, scale + 1)
            parts.append(stepper.run(group, inputs, first, scale + 1, wanted_from=scale))
            if guided:
                _ = parts[-1].guided  # now: the next pass may write where this one's logits are
            order += group
        return parts[0] if len(parts) == 1 else joined(parts, rows_of(images, order, self.seeds.device))

    def decode_plain(self, which: str, last: int) -> None:
        """Decode up to scale ``last`` with one model. All images must be at the same scale."""
        for scale in range(self.maps.progress[0].committed, last):
            self.step_plain(which, range(self.batch), scale)

    def step_plain(self, which: str, images: Sequence[int], scale: int) -> None:
        """Decode the next scale with one model. All ``images`` must be at that scale."""
        self.pick_and_commit(images, scale, self.next_logits(which, images, guided=self.sampling.more_smooth))

    def pick_and_commit(self, images: Sequence[int], scale: int, logits: Logits) -> None:
        """Commit what is picked from the logits of the next scale, (n, n_k, V)."""
        tokens = self.pick(images, scale, logits)
        self.maps.commit(images, scale, tokens, self._smooth_code(scale, logits))

    def _smooth_code(self, scale: int, logits: Logits) -> Tensor | None:
        """The mixture of codebook vectors that ``more_smooth`` puts in place of the tokens': (B, n_k, C_vae)."""
        if not self.sampling.more_smooth:
            return None
        _, positions, vocabulary = logits.guided.shape
        gumbel = noise.gumbel(self.seeds, "smooth", scale, positions, vocabulary, logits.guided.dtype)
        codebook = self.maps.quantizer.embedding.weight
        weights = smooth_weights(self.sampling.filtered(logits.guided), gumbel, scale / max(1, len(self.pyramid) - 1))
        return product(weights.to(codebook.dtype), codebook.T)

    def proposal(
        self, images: Sequence[int], scale: int, drafted: Tensor, logits: Logits, draft_logits: Tensor | None = None
    ) -> Proposal:
        """A drafted scale as an acceptance rule sees it.

        Args:
            images: n image numbers.
            scale: scale number.
            drafted: int64 (n, n_k).
            logits, draft_logits: (n, n_k, V), guided; the draft's are None unless the rule reads them.
        """
        return Proposal(
            scale=scale,
            drafted=drafted,
            picked=self.pick(images, scale, logits),
            target_logits=logits.guided,
            draft_logits=draft_logits,
            codebook=self.maps.quantizer.embedding.weight,
            sampling=self.sampling,
            seeds=self.seeds[self.maps.rows(images)],
        )

    def check_finite(self) -> None:
        """Raise ValueError if a logit of this decode was NaN or infinite, naming model, scale and image."""
        check_finite(self._steppers.values())

    def close(self) -> None:
        """Hand the workspaces back to the models. Nothing can be decoded in this state after that."""
        while self._steppers:
            stepper = self._steppers.popitem()[1]
            stepper.model.hand_back(stepper.workspace)

    def stats(self) -> DecodeStats:
        def per_image(which: str, what: str) -> Tensor:
            return torch.tensor([getattr(image.of(which), what) for image in self.maps.progress])

        return DecodeStats(
            target_calls=per_image("target", "calls"),
            draft_calls=per_image("draft", "calls"),
            target_tokens=per_image("target", "tokens"),
            draft_tokens=per_image("draft", "tokens"),
            drafted_tokens=self.counts.drafted_tokens,
            agreed_tokens=self.counts.agreed_tokens,
            drafted_scales=self.counts.drafted_scales,
            accepted_scales=self.counts.accepted_scales,
            drafted_rounds=self.counts.drafted_rounds,
            accepted_rounds=self.counts.accepted_rounds,
        )


def grouped(images: Iterable[int], key: Callable[[int], Key]) -> list[tuple[Key, list[int]]]:
    """Images that share ``key(image)``, in ascending order within a group."""
    groups: dict[Key, list[int]] = defaultdict(list)
    for i in images:
        groups[key(i)].append(i)
    return list(groups.items())
