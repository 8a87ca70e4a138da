"""Every strategy under torch's FakeTensorMode with all models on a GPU: a second opinion on where tensors are.

Fake tensors have no numbers, so what the host asks of the device is answered here; anything else that depends on
numbers raises.
"""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import sdvar
from sdvar import rows
from sdvar.decoding import stepper
from sdvar.kernels import selection
from tests.random_pairs import close_pair
from tests.sdvar.decoding.test_on_cuda import STRATEGIES

DEVICE, PAIR = "cuda:0", close_pair((1, 2, 3))


class Answers(TorchDispatchMode):
    """Says that all logits are finite."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation is torch.ops.aten._local_scalar_dense.default:
            assert args[0].dtype == torch.bool
            return True
        return operation(*args, **(kwargs or {}))


@pytest.fixture
def fake(monkeypatch):
    """The mode; what keeps tensors from decode to decode keeps no fake ones."""
    for module, kept in ((rows, "_kept"), (stepper, "_per_position")):
        monkeypatch.setattr(module, kept, getattr(module, kept).__wrapped__)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    for tried in ("_tried", "_tried_blocks", "_tried_f_hat"):
        monkeypatch.setattr(selection, tried, lambda *of_kernel: None)
    monkeypatch.setattr("sdvar.models.layers.linear._row_blocks", lambda kernel, threads: WholeCalls)
    monkeypatch.setattr(sdvar.VQVAE, "_calls", lambda vae, images: [images])
    return FakeTensorMode(allow_non_fake_inputs=False)


class WholeCalls:
    """In place of trials, which compare numbers."""

    @staticmethod
    def calls(rows):
        return ((0, rows),)


def on_device(pair, fake):
    """A copy of the pair whose weights are fake ones on the device."""
    pair = copy.deepcopy(pair)
    for model in (pair.draft, pair.target, pair.tokenizer):
        for module in model.modules():
            for values in (module._parameters, module._buffers):
                for name, value in values.items():
                    if value is not None:
                        with fake:
                            made = torch.empty(value.shape, dtype=value.dtype, device=DEVICE)
                            values[name] = torch.nn.Parameter(made, False) if values is module._parameters else made
    return pair


@pytest.mark.parametrize(("strategy", "accepted"), [
    *((strategy, True) for strategy in STRATEGIES),
    *((strategy, False) for strategy in STRATEGIES if isinstance(strategy, sdvar.Speculative)),
], ids=repr)  # fmt: skip
@pytest.mark.one_in(8)
def test_all_tensors_of_a_decode_are_on_the_device(fake, monkeypatch, strategy, accepted):
    def verdicts(tensor):
        if tensor.ndim == 1:
            return [0] * len(tensor)
        scales, three, images = tensor.shape
        assert three == 3
        return [[[int(accepted)] * images, [int(not accepted)] * images, [0] * images]] * scales

    monkeypatch.setattr(FakeTensor, "tolist", verdicts)
    pair = on_device(PAIR, fake)
    with fake, Answers():
        result = sdvar.decode(pair, [1, 2, 3], [4, 5, 6], strategy, sdvar.Sampling(top_k=20, top_p=0.9))
    assert {str(part.device) for part in (*result.tokens, result.images)} == {DEVICE}
