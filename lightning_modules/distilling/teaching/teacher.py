"""The target as the teacher: it samples the images that a draft is trained on, with the distributions it drew from."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_modules.options.sampling import say_if_all_are_kept
from sdvar.decoding.state import DecodeState
from sdvar.decoding.surroundings import set_aside
from sdvar.models.tokenizer import VQVAE
from sdvar.models.transformer import VAR
from sdvar.pair import ModelPair
from sdvar.sampling import Sampling


class Lesson(NamedTuple):
    """Images of the scales before some ``last``, T tokens each.

    Attributes:
        labels, seeds: int64 (B,).
        tokens: int64 (B, T).
        inputs: (B, T - n_0, C_vae), what a VAR reads, see `VQVAE.var_inputs`.
        logits: (B, T, V), the target's for these inputs, guided, divided by the temperature, filtered.
    """

    labels: Tensor
    seeds: Tensor
    tokens: Tensor
    inputs: Tensor
    logits: Tensor


class Teacher:
    """A target that is not trained, its tokenizer, and how tokens are drawn.

    It is no module: a LightningModule that holds it neither trains, nor averages, nor saves it.

    Args:
        target, tokenizer: the models.
        sampling: of the runs to come.

    Raises:
        ValueError: they do not belong together.
    """

    def __init__(self, target: VAR, tokenizer: VQVAE, sampling: Sampling) -> None:
        self.pair = ModelPair(target, target, tokenizer)
        self.sampling = sampling
        sampling.check_scales(len(self.pair.pyramid))
        say_if_all_are_kept(sampling, target)
        for model in (target, tokenizer):
            model.requires_grad_(False)

    def __deepcopy__(self, memo: Any) -> Teacher:
        return self  # averaging copies the module that holds it

    def to(self, device: torch.device) -> Teacher:
        """Move the models; returns the teacher."""
        self.pair.to(device)
        return self

    @torch.no_grad()
    def lesson(
        self, labels: Tensor, seeds: Tensor, last: int, student: VAR | None = None, entry: int = 0,
        known: Tensor | None = None,
    ) -> Lesson:  # fmt: skip
        """Sample images, and say how each token was likely.

        The distributions are those of the passes that sampled. Where a student or a stored image made the tokens, one
        more pass of the target over all scales gives them.

        Args:
            labels, seeds: int64 (B,).
            last: the first scale that is left out.
            student: samples the scales from ``entry`` on in the target's place, if given.
            entry: its first scale.
            known: int64 (B, L), tokens that are taken in place of the target's.
        """
        pair = self.pair if student is None else ModelPair(student, self.pair.target, self.pair.tokenizer)
        with set_aside(pair.device):
            state = DecodeState(pair, labels.cpu(), seeds.to(pair.device), self.sampling)
            if student is not None:
                student.release()  # its weights have changed since
            lesson = self._lesson(state, last, last if student is None else entry, known)
            state.check_finite()
            state.close()
        return lesson

    @torch.no_grad()
    def stored_lesson(self, labels: Tensor, seeds: Tensor, last: int, known: Tensor, logits: Tensor) -> Lesson:
        """The lesson of stored images whose distributions are stored too: the target does not run.

        Args:
            labels, seeds, last, known: see `lesson`.
            logits: filtered, (B, L, V).
        """
        pair, pyramid = self.pair, self.pair.pyramid
        labels, seeds, known = (given.to(pair.device) for given in (labels, seeds, known))
        first, end = pyramid.tokens[0], pyramid.offsets[last]
        with set_aside(pair.device):
            inputs = pair.tokenizer.var_inputs([scale.contiguous() for scale in pyramid.split(known)])
        return Lesson(labels, seeds, known[:, :end], inputs[:, : end - first], logits[:, :end])

    def _lesson(self, state: DecodeState, last: int, entry: int, known: Tensor | None) -> Lesson:
        everyone, pyramid, logits = range(state.batch), state.pyramid, []
        stored = None if known is None else pyramid.split(known.to(state.seeds.device))
        for scale in range(entry):
            if stored is not None:
                state.maps.commit(everyone, scale, stored[scale])
                continue
            made = state.next_logits("target", everyone, guided=True)
            logits.append(made.guided)
            state.maps.commit(everyone, scale, state.pick(everyone, scale, made))
        state.decode_plain("draft", last)
        first, end = pyramid.tokens[0], pyramid.offsets[last]
        inputs = state.maps.inputs[:, first:end]
        if len(logits) < last:
            logits = self._read(state, inputs, last)
        filtered = self.sampling.filtered(torch.cat(logits, dim=1))
        return Lesson(state.labels, state.seeds, state.maps.tokens[:, :end], inputs, filtered)

    @staticmethod
    def _read(state: DecodeState, inputs: Tensor, last: int) -> list[Tensor]:
        """The target's logits of given tokens, in one pass."""
        stepper, everyone = state.stepper("target"), range(state.batch)
        stepper.truncate(everyone, 1)
        rest = [stepper.logits(everyone, inputs, 1, last, wanted_from=1)] if last > 1 else []
        return [stepper.first_logits.guided, *rest]


def guided_logits(
    model: VAR, labels: Tensor, inputs: Tensor, first: int, last: int, sampling: Sampling
) -> Tensor:  # fmt: skip
    """A VAR's logits as decoding uses them, with gradients: guided and divided by the temperature.

    With guidance inside they are its class branch's.

    Args:
        model: the VAR.
        labels: int64 (B,) on its device.
        inputs: (B, tokens of the scales 1 <= k < ``last``, C_vae).
        first, last: the scales whose logits are wanted.

    Returns:
        (B, tokens of those scales, V).
    """
    pyramid, guided = model.pyramid, model.guided_scales(sampling) > first
    if guided:
        labels = torch.cat((labels, torch.full_like(labels, model.num_classes)))
        inputs = torch.cat((inputs, inputs))
    logits = model.forward_span(model.condition(labels), inputs, 0, last, logits_from=first)

    def per_position(of_scales: list[float]) -> Tensor:
        return logits.new_tensor(of_scales)[pyramid.scale_of_position(first, last, logits.device)][:, None]

    scales = range(len(pyramid))
    if guided:
        of_class, of_null = logits.chunk(2)
        strength = per_position([sampling.guidance(k, len(pyramid)) for k in scales])
        logits = (1 + strength) * of_class - strength * of_null
    return logits / per_position([sampling.temperature_at(k) for k in scales])
