"""The first prototype's names: its scripts run, and say the same as `sdvar.decode`."""

import logging

import matplotlib
import pytest
import torch

import sdvar
from sdvar.prototype import SDVAR, check_label_B, from_g_seed
from tests.random_pairs import random_pair

K = 4  # scales of the random pair


@pytest.fixture(scope="module")
def small():
    pair = random_pair(dtype=torch.float32)
    return SDVAR(pair.draft, pair.target, pair.tokenizer)


@pytest.fixture(scope="module")
def tiny():
    pair = sdvar.load_pair("tiny")
    return SDVAR(pair.draft, pair.target, pair.tokenizer)


def test_the_prototypes_comparison_with_the_baseline(tiny, tmp_path):
    """The body is the prototype's script but for the class number, which the bundled pair does not have."""
    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from torchvision.utils import save_image

    sdvar_model, volcano = tiny, 8
    result_img = sdvar_model.sdvar_autoregressive_infer_cfg_parallel_v1(
        B=4, label_B=torch.tensor([volcano] * 4), g_seed=42, gamma=2, cfg=1.5, verbose=True
    )
    var_result = sdvar_model.target_model.autoregressive_infer_cfg(
        B=4, label_B=torch.tensor([volcano] * 4), cfg=1.5, g_seed=42
    )
    old_result = sdvar_model.sdvar_autoregressive_infer_cfg_sd_test3(
        B=4, label_B=torch.tensor([volcano] * 4), g_seed=42, entry_num=5, sd_mask=0
    )

    assert result_img.shape == var_result.shape == old_result.shape == (4, 3, 32, 32)
    for images in (result_img, var_result, old_result):
        assert images.dtype == torch.float32 and images.min() >= 0 and images.max() <= 1
        assert images.max() - images.min() > 0.5  # range: not a blank image
    assert torch.abs(var_result - result_img).mean() < 0.01  # 0 but for near-ties of float32
    assert torch.norm(var_result - result_img) < 1
    correlation = torch.corrcoef(torch.stack([var_result.flatten(), result_img.flatten()]))[0, 1]
    assert correlation > 0.99
    for mask in (0, 3):  # lossy: another image, whatever the seed
        handoff = sdvar_model.sdvar_autoregressive_infer_cfg_sd_test3(
            4, torch.tensor([volcano] * 4), 42, entry_num=5, sd_mask=mask
        )
        assert torch.abs(handoff - var_result).mean() > 0.01

    figure, axes = plt.subplots(1, 2)
    for axis, images, name in zip(axes, (var_result, result_img), ("baseline", "sdvar")):
        save_image(images, tmp_path / f"{name}.png")
        axis.imshow(images[0].permute(1, 2, 0))
    figure.savefig(tmp_path / "side_by_side.png")
    plt.close(figure)
    assert (tmp_path / "side_by_side.png").stat().st_size > 1000


def test_each_name_is_its_strategy(small):
    seeds, _ = from_g_seed(7, 3, 10)
    labels, sampling = torch.tensor([0, 1, 2]), sdvar.Sampling(cfg=2.0, top_k=20, top_p=0.9)
    given = {"B": 3, "label_B": labels, "g_seed": 7, "cfg": 2.0, "top_k": 20, "top_p": 0.9}

    def expected(strategy):
        return sdvar.decode(small.pair, labels, seeds, strategy, sampling).images

    ours = small.sdvar_autoregressive_infer_cfg_parallel_v1(**given, gamma=3)
    assert torch.equal(ours, expected(sdvar.Speculative(3, sdvar.Coupled())))
    for mask, prefix in ((0, "none"), (3, "block_causal")):
        ours = small.sdvar_autoregressive_infer_cfg_sd_test3(**given, entry_num=2, sd_mask=mask)
        assert torch.equal(ours, expected(sdvar.Handoff(2, "draft", prefix)))
    assert torch.equal(small.target_model.autoregressive_infer_cfg(**given), expected(sdvar.Baseline()))
    assert torch.equal(small.draft_model.autoregressive_infer_cfg(**given), expected(sdvar.Baseline("draft")))


def test_gamma_reaches_the_decoder(small, caplog):
    with caplog.at_level(logging.INFO, "sdvar.rounds"):
        small.sdvar_autoregressive_infer_cfg_parallel_v1(1, 0, 0, gamma=2)
    assert "drafted 2 " in caplog.text


def test_more_smooth(small):
    given = {"B": 2, "label_B": 1, "g_seed": 0}
    smooth = small.target_model.autoregressive_infer_cfg(**given, more_smooth=True)
    assert not torch.equal(smooth, small.target_model.autoregressive_infer_cfg(**given))
    with pytest.raises(ValueError, match="more_smooth"):
        small.sdvar_autoregressive_infer_cfg_parallel_v1(**given, more_smooth=True)


def test_an_image_does_not_depend_on_B():
    pair = random_pair()
    model = SDVAR(pair.draft, pair.target, pair.tokenizer)
    many = model.target_model.autoregressive_infer_cfg(5, None, 11)
    few = model.target_model.autoregressive_infer_cfg(2, None, 11)
    torch.testing.assert_close(many[:2], few, atol=1e-6, rtol=0)


def test_image_seeds_are_mixed():
    g_seeds = [*range(200), -1, 2**63 - 1, -(2**63)]
    seeds = torch.stack([from_g_seed(g_seed, 50, 10)[0] for g_seed in g_seeds])
    assert seeds.unique().numel() == seeds.numel()  # g_seed + i would share almost all of them
    assert torch.equal(from_g_seed(5, 50, 10)[0][:20], from_g_seed(5, 20, 10)[0])


def test_random_classes_are_uniform():
    _, classes = from_g_seed(3, 20000, 10)
    counts = classes.bincount(minlength=10)
    assert classes.min() >= 0 and len(counts) == 10
    assert ((counts - 2000).abs() < 200).all()  # 4.7 standard deviations


def test_without_g_seed_the_images_are_fresh(small):
    a, b = (small.target_model.autoregressive_infer_cfg(2, 0) for _ in range(2))
    assert not torch.equal(a, b)
    drawn = []
    for _ in range(2):  # as the original VAR: torch's generator decides
        torch.manual_seed(5)
        drawn.append(small.target_model.autoregressive_infer_cfg(2))
    assert torch.equal(*drawn)


def test_label_forms():
    assert check_label_B(3, 2, 10).tolist() == [3, 3]
    assert check_label_B(-1, 2, 10).tolist() == [10, 10]  # the null class
    assert check_label_B(torch.tensor([4, 10], dtype=torch.int32), 2, 10).tolist() == [4, 10]


@pytest.mark.parametrize(
    "wrong, error, words",
    [
        ({"B": 0}, ValueError, "B: expected an int >= 1, got 0"),
        ({"B": 2.0}, TypeError, "B: expected an int"),
        ({"label_B": 10}, ValueError, "label_B: expected a class from 0 to 9, or -1 for the null class, got 10"),
        ({"label_B": -2}, ValueError, "label_B: .* got -2"),
        ({"label_B": True}, TypeError, "label_B: .* got True"),
        ({"label_B": "cat"}, TypeError, "label_B: .* got 'cat'"),
        ({"label_B": torch.tensor([1])}, ValueError, r"label_B: .* shape \(2,\), got shape \(1,\)"),
        ({"label_B": torch.tensor([1, -1])}, ValueError, "label_B: .* got -1"),
        ({"label_B": torch.tensor([1, 11])}, ValueError, "label_B: .* got 11"),
        ({"label_B": torch.tensor([1.0, 2.0])}, TypeError, "label_B: .* torch.float32"),
        ({"g_seed": 1.5}, TypeError, "g_seed: expected an int or None, got 1.5"),
        ({"g_seed": 2**63}, ValueError, "g_seed: expected a signed 64-bit int"),
        ({"cfg": "high"}, TypeError, "cfg"),
    ],
)
def test_wrong_arguments_of_all_three(small, monkeypatch, wrong, error, words):
    monkeypatch.setattr(sdvar.VAR, "forward_span", lambda *_, **__: pytest.fail("a model ran"))
    given = {"B": 2, "label_B": 1, "g_seed": 0} | wrong
    for method in (
        small.sdvar_autoregressive_infer_cfg_parallel_v1,
        small.target_model.autoregressive_infer_cfg,
        lambda **kwargs: small.sdvar_autoregressive_infer_cfg_sd_test3(**kwargs, entry_num=2),
    ):
        with pytest.raises(error, match=words):
            method(**given)


@pytest.mark.parametrize(
    "wrong, error, words",
    [
        ({"entry_num": K + 1}, ValueError, "entry_num: expected 0 to 4, the number of scales, got 5"),
        ({"entry_num": -1}, ValueError, "entry_num"),
        ({"sd_mask": 1}, ValueError, "sd_mask: expected 0 .* or 3 .* got 1"),
        ({"sd_mask": None}, ValueError, "sd_mask: expected 0 .* or 3 .* got None"),
        ({"sd_mask": False}, ValueError, "sd_mask"),
    ],
)
def test_wrong_arguments_of_test3(small, wrong, error, words):
    with pytest.raises(error, match=words):
        small.sdvar_autoregressive_infer_cfg_sd_test3(**({"B": 1, "label_B": 0, "g_seed": 0, "entry_num": 2} | wrong))


@pytest.mark.parametrize("wrong, error", [({"gamma": 0}, ValueError), ({"verbose": 1}, TypeError)])
def test_wrong_arguments_of_parallel_v1(small, wrong, error):
    with pytest.raises(error, match=next(iter(wrong))):
        small.sdvar_autoregressive_infer_cfg_parallel_v1(1, 0, 0, **wrong)


def drop_log_handlers(monkeypatch):
    """Logging as in a program that configures none; pytest adds handlers of its own when a test begins."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])


def logging_state():
    return [(log.level, list(log.handlers), log.propagate) for log in map(logging.getLogger, ("sdvar.rounds", None))]


def test_verbose_goes_to_stderr_where_nothing_is_configured(small, capsys, monkeypatch):
    drop_log_handlers(monkeypatch)
    before = logging_state()
    small.sdvar_autoregressive_infer_cfg_parallel_v1(1, 0, 0, verbose=True)
    shown = capsys.readouterr()
    assert "target calls" in shown.err and not shown.out
    small.sdvar_autoregressive_infer_cfg_parallel_v1(1, 0, 0)
    assert not capsys.readouterr().err
    with pytest.raises(ValueError):
        small.sdvar_autoregressive_infer_cfg_parallel_v1(0, 0, 0, verbose=True)
    assert logging_state() == before


@pytest.mark.parametrize("level, own", [(logging.NOTSET, True), (logging.WARNING, False)])
def test_verbose_uses_a_handler_that_takes_the_lines(small, capsys, monkeypatch, level, own):
    drop_log_handlers(monkeypatch)
    records = []
    handler = logging.Handler(level)
    handler.emit = records.append
    logging.getLogger().addHandler(handler)
    small.sdvar_autoregressive_infer_cfg_parallel_v1(1, 0, 0, verbose=True)
    assert bool(records) == own
    assert bool(capsys.readouterr().err) != own  # once, not twice, and never lost


def test_scripts_that_run_under_autocast(small):
    """The original VAR's scripts do; the precision stays that of the weights."""
    given = {"B": 3, "label_B": None, "g_seed": 1}
    expected = small.sdvar_autoregressive_infer_cfg_parallel_v1(**given)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(small.sdvar_autoregressive_infer_cfg_parallel_v1(**given), expected)
