"""Changes of weights that torch does not count: of inference tensors, through ``weight.data`` or a NumPy view."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

NUMBERS = 8  # of each tensor, spread over it


class Sample:
    """Some numbers of tensors in a CPU's memory, to be compared with what they are later.

    A training step, a moving average and a copy of other weights change them; a change of a few numbers may not. On
    other devices nothing is sampled: comparing would wait for the device.

    Args:
        tensors: whose numbers; those that are not plain or not contiguous are left out.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._views = [view for tensor in tensors if (view := _spread(tensor)) is not None]
        self._numbers = self._read()

    @torch.no_grad()
    def changed(self) -> bool:
        """Whether one of the numbers is another than when the sample was taken."""
        return bool(self._views) and not torch.equal(self._read(), self._numbers)

    def _read(self) -> Tensor:
        return torch.cat(self._views) if self._views else torch.empty(0)


@torch.no_grad()
def _spread(tensor: Tensor) -> Tensor | None:
    """A view of some of a tensor's numbers; None where there is none that follows the tensor."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.device.type != "cpu" or not tensor.is_contiguous():
        return None
    return tensor.detach().view(-1)[:: max(1, tensor.numel() // NUMBERS)]
