"""The kernels of the head and of f-hat under Triton's interpreter; run by test_pick.py, in a process of its own."""

import pytest
import torch

import sdvar
from sdvar.kernels import f_hat, head, head_trial, reference, trial
from tests.random_pairs import close_pair, same_tokens

CPU, PROOF = torch.device("cpu"), pytest.mark.proof


@pytest.fixture(autouse=True)
def small_batches_take_large_tiles(monkeypatch):
    monkeypatch.setattr(head, "LARGE_FROM", 100)


@pytest.mark.parametrize(("width", "columns"), [
    (70, 150), *(pytest.param(*sizes, marks=PROOF) for sizes in ((64, 1), (40, 5), (1024, 256), (1920, 130))),
])  # fmt: skip
def test_it_is_as_exact_as_torchs_product_and_a_row_has_the_same_bits_in_every_call(width, columns):
    assert head_trial.problems(head, CPU, width, columns) == []


def test_a_wrong_kernel_is_found(monkeypatch):
    right = head.product
    monkeypatch.setattr(head, "product", lambda h, weight, bias: right(h, weight.bfloat16().float(), bias))
    assert [problem.split(":")[0] for problem in head_trial.problems(head, CPU, 40, 20)] == [
        "random rows", "rows that cancel",
    ]  # fmt: skip
    monkeypatch.setattr(head, "product", lambda h, *others: right(h, *others) + 1e-7 * (len(h) > 100))
    assert "random rows: a row's numbers change with the rows beside it" in head_trial.problems(head, CPU, 40, 20)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_what_is_not_finite_stays_so():
    h, weight = torch.ones(3, 8), torch.ones(5, 8)
    h[0, 2], h[2, 3] = torch.inf, torch.nan
    assert head.product(h, weight, torch.zeros(5)).isfinite().all(1).tolist() == [False, True, False]


def test_coupled_is_the_baseline_with_the_kernel(monkeypatch):
    pair, calls = close_pair((1, 2, 3), torch.float32), []
    monkeypatch.setattr("sdvar.models.transformer.fused_blocks", lambda *of: reference)
    monkeypatch.setattr("sdvar.models.transformer.fused_head", lambda *of: calls.append(of) or head.product)
    sampling = sdvar.Sampling(cfg=2.0, top_k=12)
    expected = sdvar.decode(pair, [1, 10], [3, 5], sdvar.Baseline(), sampling, images=False)
    ours = sdvar.decode(pair, [1, 10], [3, 5], sdvar.Speculative(2), sampling, images=False)
    assert same_tokens(ours, expected) and calls


def test_f_hat_is_torchs_to_the_bit(monkeypatch):
    assert trial.f_hat_problems(f_hat, CPU) == []
    monkeypatch.setattr(f_hat, "added", lambda f_hat, h, convolved: f_hat + 0.4 * h + 0.6 * convolved)
    assert len(trial.f_hat_problems(f_hat, CPU)) == 2
