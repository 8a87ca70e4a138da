"""The original VAR code, run from a checkout of the user; none of it is in this project.

What is used of it: `models.build_vae_var`, `VAR.autoregressive_infer_cfg` and the names of the weights.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import sdvar
from eval.benchmarking.measuring import Runner
from sdvar.engine import tf32_allowed
from sdvar.models.cost import state_bytes

NAMES = {
    torch.float32: "original_float32",
    torch.float16: "original_fp16_autocast",
    torch.bfloat16: "original_bf16_autocast",
}
_TOP_LEVEL = ("models", "dist")  # the modules of the checkout


class Original(NamedTuple):
    """The two models of the original code."""

    tokenizer: nn.Module
    var: nn.Module

    def images(
        self, labels: Tensor, sampling: sdvar.Sampling, autocast: torch.dtype | None = None, tf32: bool = False
    ) -> Tensor:
        """One batch of images, (B, 3, H, W) in [0, 1].

        Args:
            labels: int64 (B,).
            sampling: as our own strategies have.
            autocast: the dtype of its autocast; None for float32 throughout.
            tf32: whether float32 products may be rounded to TF32, as its own demonstration has it on a GPU.
        """
        casting = torch.autocast(labels.device.type, autocast or torch.bfloat16, enabled=autocast is not None)
        with torch.inference_mode(), tf32_allowed(tf32), casting:
            return self.var.autoregressive_infer_cfg(
                B=len(labels), label_B=labels, cfg=sampling.cfg, top_k=sampling.top_k, top_p=sampling.top_p
            )

    def tokens(self, labels: Tensor, sampling: sdvar.Sampling) -> list[Tensor]:
        """The token maps of one batch in float32: what it looks up in the codebook."""
        seen: list[Tensor] = []
        lookup = self.tokenizer.quantize.embedding
        hook = lookup.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].clone()))
        try:
            self.images(labels, sampling)
        finally:
            hook.remove()
        return seen

    def runner(self, name: str, sampling: sdvar.Sampling, autocast: torch.dtype | None, tf32: bool) -> Runner:
        """It beside our strategies; arguments as of `images`."""

        def run(labels: Tensor, seeds: Tensor) -> None:
            torch.manual_seed(int(seeds[0]))
            self.images(labels, sampling, autocast, tf32)

        return Runner(name, run, lambda: sum(map(state_bytes, self)))


def load_original(path: str, pair: sdvar.ModelPair) -> Original:
    """The original's models with the target's and the tokenizer's weights, in float32.

    Args:
        path: the checkout.
        pair: whose target and tokenizer it takes.

    Raises:
        ValueError: if the path is not such a checkout, or the original has no models of these sizes.
    """
    build = _builder(path)
    target, tokenizer = pair.target, pair.tokenizer
    if (target.width, target.heads) != (64 * target.depth, target.depth):
        raise ValueError(
            f"original: it builds targets with a width of 64 x depth and depth heads, this one has depth "
            f"{target.depth}, width {target.width} and {target.heads} heads"
        )
    phis = {key.split(".")[3] for key in tokenizer.state_dict() if key.startswith("quantize.quant_resi.qresi_ls.")}
    arguments = {
        "device": pair.device,
        "patch_nums": pair.pyramid.patch_nums,
        "V": pair.target.codebook_size,
        "Cvae": pair.target.latent_channels,
        "ch": tokenizer.encoder.conv_in.out_channels,
        "share_quant_resi": len(phis),
        "num_classes": pair.num_classes,
        "depth": target.depth,
        "shared_aln": target.shared_ada_lin is not None,
        "attn_l2_norm": target.blocks[0].attn.qk_norm,
    }
    with contextlib.redirect_stdout(sys.stderr), _keeping_initialisation():
        original = Original(*build(**arguments))
    for name, theirs, ours in (("tokenizer", original.tokenizer, tokenizer), ("target", original.var, target)):
        try:
            theirs.load_state_dict(ours.state_dict())
        except RuntimeError as error:
            raise ValueError(
                f"original: its {name} does not accept our weights: {' '.join(str(error).split())}"
            ) from None
        theirs.float().eval().requires_grad_(False)
    return original


def _builder(path: str) -> Any:
    """The checkout's `build_vae_var`."""
    folder = str(Path(path).resolve())
    for name in [name for name in sys.modules if name.partition(".")[0] in _TOP_LEVEL]:
        del sys.modules[name]
    sys.path.insert(0, folder)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module("models").build_vae_var
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"original: expected a checkout of the VAR code that runs here, got {path!r}: {error}"
        ) from None
    finally:
        sys.path.remove(folder)


@contextlib.contextmanager
def _keeping_initialisation() -> Iterator[None]:
    """Its builder disables the initialisation of torch's layers for good; this restores it."""
    layers = [cls for cls in vars(nn).values() if isinstance(cls, type) and issubclass(cls, nn.Module)]
    before = {cls: vars(cls).get("reset_parameters") for cls in layers}
    try:
        yield
    finally:
        for cls, method in before.items():
            if method is not None:
                cls.reset_parameters = method
            elif "reset_parameters" in vars(cls):
                del cls.reset_parameters


def original_runners(
    original: Original, sampling: sdvar.Sampling, device: torch.device, dtype: torch.dtype
) -> list[Runner]:
    """The original under its recommended settings and under ours; ``dtype`` is that of our blocks."""
    if device.type == "cuda":
        tf32 = {torch.float16: True} | ({dtype: False} if dtype != torch.float16 else {})
    else:
        tf32 = {torch.float32: False, torch.bfloat16: False}
    return [
        original.runner(NAMES[cast], sampling, None if cast == torch.float32 else cast, tf32[cast]) for cast in tf32
    ]


def compare_tokens(original: Original, pair: sdvar.ModelPair, labels: Tensor, seeds: Tensor, cfg: float) -> dict:
    """Our baseline's tokens against the original's, both float32 and the likeliest token everywhere.

    Returns:
        images; how many of them are equal; how many first differ by a near-tie; the largest score gap at a first
        difference (None if there is none); and whether all differences are near-ties.
    """
    sampling = sdvar.Sampling(cfg, top_k=1)
    theirs = original.tokens(labels, sampling)
    ours = sdvar.decode(pair, labels, seeds, sdvar.Baseline(), sampling, images=False).tokens
    gaps = sdvar.first_differences(pair, labels, seeds, sampling, ours, theirs)
    differing = gaps[~gaps.isnan()]
    near_ties = int((differing < sdvar.NEAR_TIE).sum())
    return {
        "images": len(labels),
        "equal_images": len(labels) - len(differing),
        "near_tie_images": near_ties,
        "largest_gap": differing.max().item() if len(differing) else None,
        "equal_up_to_near_ties": near_ties == len(differing),
    }
