"""Tensors into a model: which must be there, in which precision, without a second copy of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sdvar.checkpoints.configuration import Weights, tokenizer_arguments, var_arguments, var_pyramid
from sdvar.checkpoints.errors import CheckpointError
from sdvar.models.dtypes import DTYPES
from sdvar.models.tokenizer import VQVAE
from sdvar.models.transformer import VAR
from sdvar.pyramid import ScalePyramid

Model = TypeVar("Model", bound=nn.Module)
# buffers whose content follows from the configuration; a file may leave them out
DERIVED = ("lvl_1L", "attn_bias_for_masking", "zero_k_bias", "ema_vocab_hit_SV")


def derived(key: str) -> bool:
    """Whether the tensor of that name follows from the configuration."""
    return key.rsplit(".", 1)[-1] in DERIVED


def empty_var(weights: Weights, pyramid: ScalePyramid | None, heads: int | None = None) -> VAR:
    """The VAR that the weights describe, on the meta device, where it takes no memory; its tensors fit the weights'.

    Args:
        weights: tensors by their released names.
        pyramid, heads: the user's, if any; see `var_pyramid` and `var_heads`.

    Raises:
        CheckpointError: if it cannot be built, or names and shapes are not the weights'; without the weights' name.
    """
    return _empty(VAR, var_arguments(weights, heads) | {"patch_nums": var_pyramid(weights, pyramid)}, weights)


def empty_tokenizer(weights: Weights, pyramid: ScalePyramid) -> VQVAE:
    """The same for a VQVAE."""
    return _empty(VQVAE, tokenizer_arguments(weights) | {"patch_nums": pyramid}, weights)


def check_values(source: object, weights: Weights) -> None:
    """Raises CheckpointError for tensors on the meta device, but of a state dict that is there as a whole."""
    without = [key for key, value in weights.items() if value.is_meta]
    if without and (len(without) < len(weights) or not isinstance(source, Mapping)):
        raise CheckpointError(
            f"{len(without)} of its {len(weights)} tensors were saved from the meta device, without values: "
            f"{', '.join(without[:5])}. Save the model after its weights are loaded"
        )


def _empty(make: Callable[..., Model], arguments: dict[str, Any], weights: Weights) -> Model:
    try:
        with torch.device("meta"):
            model = make(**arguments)
    except Exception as error:  # the layers' own errors about invalid sizes
        raise CheckpointError(
            f"its tensors describe a {make.__name__} that cannot be built ({error}); the file is damaged or of "
            "another architecture"
        ) from error
    expected = model.state_dict()
    problems = {
        "missing": [key for key in expected if key not in weights and not derived(key)],
        "unexpected": [key for key in weights if key not in expected],
        "mis-shaped": [
            f"{key} {tuple(weights[key].shape)} instead of {tuple(value.shape)}"
            for key, value in expected.items()
            if key in weights and weights[key].shape != value.shape
        ],
    }
    if any(problems.values()):
        listed = "; ".join(f"{len(keys)} {what}: {', '.join(keys[:5])}" for what, keys in problems.items() if keys)
        raise CheckpointError(
            f"does not fit the {make.__name__} that its tensors describe: {listed}. Save the state_dict() of "
            "the whole model and nothing else"
        )
    return model


def fill(model: Model, weights: Weights, device: str | torch.device, dtype: torch.dtype) -> Model:
    """Gives a model from `empty_model` its tensors, converted one by one; in eval mode, without gradients.

    The model shares no memory with the weights: a mapped file may change while the model lives. Weights on the
    meta device, which have no values, make a model on the meta device.

    Raises:
        CheckpointError: if values are not finite or not floating point; without the name of the weights.
    """
    full = dtype if dtype == torch.float64 else torch.float32
    meta = any(value.is_meta for value in weights.values()) or torch.device(device).type == "meta"
    converted = {}
    for key, slot in model.state_dict().items():
        wanted = dtype if _low_precision(model, key) else full
        if derived(key):
            wanted = slot.dtype if not slot.is_floating_point() else wanted
            value = slot if meta else derived_buffer(model, key, slot.shape)
            converted[key] = value.to(dtype=wanted, device="meta" if meta else device)
        elif meta:
            converted[key] = torch.empty_like(slot, dtype=wanted)
        else:
            converted[key] = _converted(key, weights[key], wanted).to(device)
    model.load_state_dict(converted, assign=True)
    return model.eval().requires_grad_(False)


def _low_precision(model: nn.Module, key: str) -> bool:
    """The blocks of a VAR but for their attention scales and gains; embeddings, head and tokenizer stay in float32."""
    in_blocks = isinstance(model, VAR) and key.startswith(("blocks.", "shared_ada_lin."))
    return in_blocks and not key.endswith(("scale_mul_1H11", "ada_gss"))


def _converted(key: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    """A contiguous copy in another precision, finite."""
    if value.dtype not in DTYPES.values() or value.layout != torch.strided:
        raise CheckpointError(
            f"{key} is of {value.dtype} ({value.layout}), expected dense numbers of "
            f"{', '.join(map(str, DTYPES.values()))}; save the weights before quantisation"
        )
    result = value.detach().to(dtype=dtype, copy=True, memory_format=torch.contiguous_format)
    if not _finite(result):
        if _finite(value):
            raise CheckpointError(
                f"{key} holds numbers that {dtype} cannot; load it in torch.bfloat16, torch.float32 or torch.float64"
            )
        raise CheckpointError(
            f"{key} holds NaN or infinite numbers; the file is damaged or its training diverged. Download it "
            "again or take an earlier checkpoint"
        )
    return result


def _finite(value: Tensor) -> bool:
    # two numbers instead of isfinite's full-size temporaries; a NaN is passed on to both
    return value.numel() == 0 or all(math.isfinite(end) for end in value.aminmax())


def derived_buffer(model: Any, key: str, shape: torch.Size) -> Tensor:
    """The content of a buffer that follows from the configuration, on the CPU; see `derived`."""
    if key == "lvl_1L":
        return model.pyramid.scale_of_position()[None]
    if key == "attn_bias_for_masking":
        visible = model.pyramid.block_causal_mask(0, len(model.pyramid))
        return torch.zeros(shape).masked_fill(~visible, -math.inf)
    return torch.zeros(shape)
