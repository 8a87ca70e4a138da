"""The first prototype's class and method names, each a thin call of `sdvar.decode`; see docs/prototype.md."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from sdvar.arguments import check_bool, check_int
from sdvar.decoding import INTEGERS
from sdvar.decoding.strategies.base import Strategy
from sdvar.decoding.strategies.baseline import Baseline
from sdvar.decoding.strategies.handoff import Handoff
from sdvar.decoding.strategies.speculative import Speculative
from sdvar.entry import decode
from sdvar.models.tokenizer import VQVAE
from sdvar.models.transformer import VAR
from sdvar.noise import philox
from sdvar.pair import ModelPair
from sdvar.sampling import Sampling

PREFIX_OF_MASK = {0: "none", 3: "block_causal"}  # the prototype's sd_mask

_ADDRESS = 0xFFFFFFFF  # last counter word; the noise of an image uses small ones (sdvar.noise.STREAMS)
_WORD = 0xFFFFFFFF


@dataclass(frozen=True)
class Decoder:
    """A pair and a strategy under the original VAR's method name."""

    pair: ModelPair
    strategy: Strategy

    def autoregressive_infer_cfg(
        self,
        B: int,
        label_B: Tensor | int | None = None,
        g_seed: int | None = None,
        cfg: float = 1.5,
        top_k: int = 0,
        top_p: float = 0.0,
        more_smooth: bool = False,
    ) -> Tensor:
        """Decode B images.

        Args:
            B: images.
            label_B: class labels (B,), or one int for all (-1: the null class), or None for random classes.
            g_seed: any signed 64-bit int; image i's seed is derived from (g_seed, i), whatever B and the method. None
                takes a fresh one from torch's global generator.
            cfg, top_k, top_p, more_smooth: see sdvar.Sampling.

        Returns:
            float32 (B, 3, H, W) in [0, 1].

        Raises:
            TypeError, ValueError: naming the wrong argument, before any model runs.
        """
        check_int("B", B, least=1)
        if g_seed is None:
            g_seed = int(torch.randint(2**63 - 1, ()))
        seeds, labels = from_g_seed(g_seed, B, self.pair.num_classes)
        if label_B is not None:
            labels = check_label_B(label_B, B, self.pair.num_classes)
        sampling = Sampling(cfg, top_k, top_p, more_smooth=more_smooth)
        images = decode(self.pair, labels, seeds, self.strategy, sampling).images
        assert images is not None  # for the type checker: decode was asked for them
        return images


class SDVAR:
    """A pair of models under the first prototype's names.

    The methods take the arguments of `Decoder.autoregressive_infer_cfg` and a few of their own, return the same and
    raise the same errors.

    Args:
        draft, target, tokenizer: see sdvar.ModelPair.

    Attributes:
        pair: the sdvar.ModelPair.
        draft_model, target_model: each with ``autoregressive_infer_cfg``, plain VAR decoding.
    """

    def __init__(self, draft: VAR, target: VAR, tokenizer: VQVAE) -> None:
        self.pair = ModelPair(draft, target, tokenizer)
        self.draft_model = Decoder(self.pair, Baseline("draft"))
        self.target_model = Decoder(self.pair, Baseline("target"))

    def sdvar_autoregressive_infer_cfg_parallel_v1(
        self,
        B: int,
        label_B: Tensor | int | None = None,
        g_seed: int | None = None,
        cfg: float = 1.5,
        gamma: int = 2,
        top_k: int = 0,
        top_p: float = 0.0,
        more_smooth: bool = False,
        verbose: bool = False,
    ) -> Tensor:
        """Draft ``gamma`` scales, verify them in one target pass; the images are the target's own for that g_seed.

        Args:
            gamma: scales drafted per round, at least 1.
            verbose: log every round: to the program's own handlers if one takes INFO lines, else to stderr.
        """
        decoder = Decoder(self.pair, Speculative(gamma))
        with shown_rounds(verbose):
            return decoder.autoregressive_infer_cfg(B, label_B, g_seed, cfg, top_k, top_p, more_smooth)

    def sdvar_autoregressive_infer_cfg_sd_test3(
        self,
        B: int,
        label_B: Tensor | int | None = None,
        g_seed: int | None = None,
        cfg: float = 1.5,
        top_k: int = 0,
        top_p: float = 0.0,
        more_smooth: bool = False,
        entry_num: int = 10,
        sd_mask: int = 0,
    ) -> Tensor:
        """The first ``entry_num`` scales from the draft, the rest from the target. Lossy: not the target's images.

        Args:
            entry_num: scales that the draft decodes, 0 .. K.
            sd_mask: 3 lets the target read the draft's scales first, in one block-causal pass; 0 starts it blind, which
                no model was trained for.
        """
        scales = len(self.pair.pyramid)
        check_int("entry_num", entry_num, least=0)
        if entry_num > scales:
            raise ValueError(f"entry_num: expected 0 to {scales}, the number of scales, got {entry_num}")
        if isinstance(sd_mask, bool) or sd_mask not in PREFIX_OF_MASK:
            raise ValueError(
                "sd_mask: expected 0 (the target starts without the draft's scales) or 3 (it reads them in one "
                f"block-causal pass), got {sd_mask!r}"
            )
        decoder = Decoder(self.pair, Handoff(entry_num, first="draft", prefix=PREFIX_OF_MASK[sd_mask]))
        return decoder.autoregressive_infer_cfg(B, label_B, g_seed, cfg, top_k, top_p, more_smooth)


def from_g_seed(g_seed: int, B: int, classes: int) -> tuple[Tensor, Tensor]:
    """Image seeds and random classes, each int64 (B,), as functions of (g_seed, image number).

    Mixed, not added: with g_seed + i, image 1 of one g_seed would be image 0 of the next.
    """
    if isinstance(g_seed, bool) or not isinstance(g_seed, int):
        raise TypeError(f"g_seed: expected an int or None, got {g_seed!r}")
    if not -(2**63) <= g_seed < 2**63:
        raise ValueError(f"g_seed: expected a signed 64-bit int, got {g_seed}")
    zero = torch.tensor(0)
    low, high, third, _ = philox(
        (torch.arange(B), zero, zero, torch.tensor(_ADDRESS)),
        (torch.tensor(g_seed & _WORD), torch.tensor((g_seed >> 32) & _WORD)),
    )
    return low | (high << 32), (third * classes) >> 32


def check_label_B(label_B: Tensor | int, B: int, classes: int) -> Tensor:
    """Labels int64 (B,) on the CPU, or one clear error."""
    allowed = f"a class from 0 to {classes - 1}, or -1 for the null class"
    if isinstance(label_B, int) and not isinstance(label_B, bool):
        if not -1 <= label_B < classes:
            raise ValueError(f"label_B: expected {allowed}, got {label_B}")
        return torch.full((B,), classes if label_B < 0 else label_B)
    if not isinstance(label_B, Tensor):
        raise TypeError(f"label_B: expected a tensor of {B} ints, an int ({allowed}) or None, got {label_B!r}")
    if label_B.dtype not in INTEGERS:
        raise TypeError(f"label_B: expected a tensor of ints, got one of {label_B.dtype}")
    if label_B.shape != (B,):
        raise ValueError(f"label_B: expected one label per image, shape ({B},), got shape {tuple(label_B.shape)}")
    outside = label_B[(label_B < 0) | (label_B > classes)]
    if len(outside):
        raise ValueError(
            f"label_B: expected 0 to {classes - 1}, or {classes} for the null class, in a tensor, got {outside[0]}"
        )
    return label_B.cpu()


@contextmanager
def shown_rounds(verbose: bool) -> Iterator[None]:
    """Within the block, if ``verbose``, the logger "sdvar.rounds" is at level INFO; afterwards it is as before.

    Lines go to the program's own log handlers if one of them takes INFO lines, else to stderr.
    """
    check_bool("verbose", verbose)
    log, to_stderr = logging.getLogger("sdvar.rounds"), logging.StreamHandler(sys.stderr)
    level = log.level
    if verbose:
        log.setLevel(logging.INFO)
        if not _reaches_a_handler(log):
            log.addHandler(to_stderr)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(to_stderr)


def _reaches_a_handler(log: logging.Logger | None) -> bool:
    while log is not None:
        if any(handler.level <= logging.INFO for handler in log.handlers):
            return True
        log = log.parent if log.propagate else None
    return False
