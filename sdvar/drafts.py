"""Models with their blocks rounded to fewer bits, and drafts made so of a target's weights, or of its first blocks.

A second checkpoint for one's own VAR is rare, and a small model agrees less with a large one than a rounded copy does.
"""

from __future__ import annotations

import re
from typing import TypeVar

import torch
from torch import nn

from sdvar.models.blocks import Block
from sdvar.models.layers.linear import Linear
from sdvar.models.protocol import NextScaleModel
from sdvar.models.quantized import KINDS, QuantizedLinear, check_kind, straight_through
from sdvar.models.transformer import VAR
from sdvar.system.command_line import did_you_mean

PREFIX = "target:"
BF16, FIRST = "bf16", "first=N"
WORDS = tuple(f"{PREFIX}{kind}" for kind in (*KINDS, BF16, FIRST))

Layer = TypeVar("Layer", bound=nn.Module)


def of_target(draft: object) -> bool:
    """Whether a draft is named by what is made of the target, and not by a checkpoint.

    Raises:
        ValueError: for a word after "target:" that names no such draft.
    """
    if not isinstance(draft, str) or not draft.startswith(PREFIX):
        return False
    if draft not in WORDS[:-1] and not re.fullmatch(r"target:first=[0-9]{1,9}", draft):
        raise ValueError(f"draft: expected one of {', '.join(WORDS)}, got {draft!r}{did_you_mean(draft, WORDS)}")
    return True


def check_draft(draft: str, depth: int, dtype: torch.dtype, device: torch.device) -> None:
    """Raise ValueError unless such a draft can be made and run.

    Args:
        draft: as `draft_of`.
        depth, dtype, device: of the target. A kind that runs on this machine's GPU alone passes on the CPU, from where
            it can be moved there.
    """
    if not of_target(draft):
        raise ValueError(f"draft: expected one of {', '.join(WORDS)}, got {draft!r}")
    kind = draft.removeprefix(PREFIX)
    if kind.startswith("first="):
        if not 1 <= int(kind.removeprefix("first=")) <= depth:
            expected = f"expected {PREFIX}first=N with N from 1 to the {depth} layers of the target"
            raise ValueError(f"draft: {expected}, got {draft}")
    elif kind != BF16:
        gpu = device.type == "cpu" and torch.cuda.is_available() and kind.endswith("-dynamic")
        check_kind(kind, torch.device("cuda") if gpu else device, dtype, others(dtype))
    elif dtype == torch.bfloat16:
        raise ValueError(
            f"draft: {draft} of a target in {dtype} would be the target; expected one of "
            f"{', '.join(word for word in WORDS if word != draft)}"
        )


def others(dtype: torch.dtype) -> tuple[str, ...]:
    """The drafts of a target in that dtype that run on every device."""
    return tuple(f"{PREFIX}{kind}" for kind in ((FIRST,) if dtype == torch.bfloat16 else (BF16, FIRST)))


def draft_of(target: NextScaleModel, draft: str) -> VAR:
    """A draft made of the target's own weights.

    Args:
        target: a `VAR` in eval mode; training it further leaves a rounded draft as it is.
        draft: "target:" and one of

            - ``int8``, ``int4``, ``fp8``: a copy of the matrices of attention and MLP, rounded by torchao; products are
              of the target's dtype;
            - ``int8-dynamic``, ``fp8-dynamic``: inputs are rounded too and products are of the rounded numbers, which
              GPUs, and CPUs with VNNI or AMX, have instructions for;
            - ``bf16``: those matrices in bfloat16;
            - ``first=N``: the first N layers, 1 <= N <= depth, which are the target's and no copies.

    Returns:
        A VAR that shares with the target all that is not copied: embeddings, AdaLN, the head.

    Raises:
        ValueError: for another word, an N out of range, a target that is no `VAR`, or what this machine cannot run.
    """
    if not isinstance(target, VAR):
        raise ValueError(f"draft: {draft} is made of a sdvar.VAR, and the target is of {type(target).__name__}")
    check_draft(draft, target.depth, target.dtype, target.device)
    kind = draft.removeprefix(PREFIX)
    if not kind.startswith("first="):
        return rounded(target, kind)
    first = list(target.blocks)[: int(kind.removeprefix("first="))]
    model = _with_blocks(target, first)
    model.depth = len(first)
    return model


def rounded(model: VAR, kind: str, trained: bool = False) -> VAR:
    """A model with the matrices of attention and MLP rounded, which shares all else with the one that it is made of.

    Args:
        model: which stays as it is.
        kind: one of `KINDS`, or "bf16".
        trained: the matrices are recomputed numbers instead, those that decoding multiplies by to the bit, through
            which gradients go to the weights of ``model`` as they are. It serves one step; of WEIGHT_KINDS alone.
    """
    return _with_blocks(model, [_rounded(block, kind, trained) for block in model.blocks])


def _with_blocks(model: VAR, blocks: list[Block]) -> VAR:
    twin = _twin(model)
    twin._kept, twin._prefixes, twin.capture_seconds = None, None, 0.0
    twin.blocks = nn.ModuleList(blocks)  # type: ignore[assignment]
    return twin


def _rounded(block: Block, kind: str, trained: bool) -> Block:
    block, attention, mlp = _twin(block), _twin(block.attn), _twin(block.ffn)
    block.attn, block.ffn = attention, mlp
    for module, name in ((attention, "mat_qkv"), (attention, "proj"), (mlp, "fc1"), (mlp, "fc2")):
        layer = getattr(module, name)
        setattr(module, name, _in_training(layer, kind) if trained else _layer(layer, kind))
    if kind == BF16:  # they are added inside the products
        for name in ("q_bias", "v_bias"):
            setattr(attention, name, _half(getattr(attention, name)))
        attention.zero_k_bias = attention.zero_k_bias.to(torch.bfloat16)
    return block


def _layer(layer: Linear, kind: str) -> nn.Module:
    if kind != BF16:
        return QuantizedLinear(layer.weight, layer.bias, kind)
    layer = _twin(layer)
    layer._copy = None
    layer.weight, layer.bias = _half(layer.weight), None if layer.bias is None else _half(layer.bias)
    return layer


def _in_training(layer: Linear, kind: str) -> Linear:
    twin = _twin(layer)
    del twin._parameters["weight"]
    twin.weight = straight_through(layer.weight, kind)
    return twin


def _half(values: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().to(torch.bfloat16), requires_grad=False)


def _twin(module: Layer) -> Layer:
    """A module of the same children, weights and buffers, each of which can be replaced in it alone."""
    twin = module.__new__(type(module))
    twin.__dict__ = module.__dict__.copy()
    for name in ("_modules", "_parameters", "_buffers"):
        twin.__dict__[name] = module.__dict__[name].copy()
    twin.__dict__.pop("_compiled_call_impl", None)
    return twin
