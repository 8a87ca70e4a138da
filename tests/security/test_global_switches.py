"""Switches of torch that another part of a program may have set change no token and no pixel, and are left as found."""

from __future__ import annotations

import pytest
import torch

import sdvar


class Seen(sdvar.Baseline):
    """Notes the switches while it decodes."""

    def run(self, state):
        type(self).found = current()
        super().run(state)


def current():
    mkldnn = torch.backends.mkldnn
    precisions = tuple(getattr(getattr(mkldnn, name), "fp32_precision", None) for name in ("matmul", "conv"))
    return torch.get_default_device(), torch.get_default_dtype(), precisions, torch.is_autocast_enabled("cpu")


def decoded(pair):
    result = sdvar.decode(pair, [1, 2], [3, 4], Seen())
    return torch.cat(result.tokens, 1), result.images


@pytest.mark.parametrize("switch", ["precision", "device", "dtype", "autocast"])
def test_a_switch_has_no_effect_and_stays_as_it_was(pair, switch, request):
    expected, as_usual = decoded(pair), Seen.found
    if switch == "precision":
        request.addfinalizer(lambda: torch.set_float32_matmul_precision("highest"))
        torch.set_float32_matmul_precision("medium")
    elif switch == "device":
        request.addfinalizer(lambda: torch.set_default_device(None))
        torch.set_default_device("meta")
    elif switch == "dtype":
        request.addfinalizer(lambda: torch.set_default_dtype(torch.float32))
        torch.set_default_dtype(torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=switch == "autocast"):
        before = current()
        found = decoded(pair)
        assert current() == before
    assert Seen.found == as_usual
    assert Seen.found[2] in (("ieee", "ieee"), (None, None))
    assert all(torch.equal(a, b) for a, b in zip(found, expected))


UINT64 = torch.tensor([1, 2], dtype=torch.uint64)


@pytest.mark.parametrize("wrong", [[True, 2], UINT64, UINT64.numpy(), [2**63, 0], [1.0, 2]])
def test_what_is_no_64_bit_int_is_refused_as_label_and_as_seed(pair, wrong):
    for name, arguments in (("labels", (wrong, [1, 2])), ("seeds", ([1, 2], wrong))):
        with pytest.raises(TypeError, match=f"{name}: expected a list or 1-D tensor of 64-bit ints"):
            sdvar.decode(pair, *arguments, sdvar.Baseline())
