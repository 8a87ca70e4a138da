"""Which dtype a device is given where the user leaves it to the program."""

from types import SimpleNamespace

import pytest
import torch

import sdvar
from sdvar.models.dtypes import as_dtype, choose_dtype


@pytest.mark.parametrize(
    "amx, avx, dtype, reason",
    [
        (True, True, torch.bfloat16, "this CPU has AMX"),
        (False, True, torch.bfloat16, "this CPU has AVX-512 BF16"),
        (False, False, torch.float32, "this CPU has neither AMX nor AVX-512 BF16"),
    ],
)
def test_a_cpu_is_known_by_its_instructions(monkeypatch, amx, avx, dtype, reason):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    assert choose_dtype("cpu") == (dtype, reason)
    pair = sdvar.load_pair("tiny", dtype="auto")
    assert pair.target.dtype == pair.draft.dtype == dtype


@pytest.mark.parametrize("major, dtype", [(9, torch.bfloat16), (8, torch.bfloat16), (7, torch.float32)])
def test_a_gpu_is_known_by_its_compute_capability(monkeypatch, major, dtype):
    card = SimpleNamespace(name="a card", major=major)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    chosen = choose_dtype("cuda:1")
    assert chosen.dtype == dtype and "a card" in chosen.reason


def test_what_is_asked_for_is_taken():
    assert as_dtype(torch.float16, "cpu") == torch.float16
    assert choose_dtype("meta").dtype == torch.float32
    for wrong in (torch.int8, "bfloat16", None):
        with pytest.raises(ValueError, match=r"dtype: expected one of torch.float64, .* or 'auto'; got"):
            as_dtype(wrong, "cpu")
