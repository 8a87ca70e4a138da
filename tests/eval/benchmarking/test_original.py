"""The original code beside ours, by a stand-in of its checkout."""

import json

import pytest
import torch

import sdvar
from eval import benchmark
from eval.benchmarking.original import compare_tokens, load_original
from tests.eval.stand_in import write_stand_in


@pytest.fixture(scope="module")
def buildable() -> sdvar.ModelPair:
    """A pair of the shape that the original's builder makes."""
    torch.manual_seed(0)
    target = sdvar.VAR((1, 2), num_classes=5, depth=1, width=64, heads=1, codebook_size=24, latent_channels=8)
    target.init_weights(adaln_gain=0.5)
    torch.nn.init.normal_(target.class_emb.weight)
    torch.nn.init.normal_(target.head.weight, std=0.2)
    return sdvar.ModelPair(target, target, sdvar.VQVAE((1, 2), 24, 8, base_channels=32))


@pytest.mark.proof
def test_the_original_runs_beside_ours(buildable, tmp_path, monkeypatch, capsys):
    from safetensors.torch import save_file

    files = []
    for name in ("draft", "target", "tokenizer"):
        save_file(getattr(buildable, name).state_dict(), tmp_path / f"{name}.safetensors")
        files += [f"--{name}", tmp_path / f"{name}.safetensors"]
    checkout, out = write_stand_in(tmp_path / "checkout"), tmp_path / "results.json"
    few = ["--accelerator", "cpu", "--strategy", "Baseline", "--batch_size", "3", "--warmup", "1", "--repeats", "1"]
    monkeypatch.setattr("torch.set_num_threads", lambda number: None)
    benchmark.main([*map(str, files), *few, "--original", str(checkout), "--out", str(out)])
    report, said = json.loads(out.read_text()), capsys.readouterr().out
    names = [entry["name"] for entry in report["results"]]
    assert names == ["baseline", "original_float32", "original_bf16_autocast"]
    assert report["original_tokens"] | {"largest_gap": None} == {
        "images": 3,
        "equal_images": 3,
        "near_tie_images": 0,
        "largest_gap": None,
        "equal_up_to_near_ties": True,
    }
    assert "the same: 3 of 3" in said
    assert "a constructor that prints" not in said
    original = report["results"][1]
    assert original["latency_seconds"]["median"] > 0
    assert "roofline" not in original


def test_wrong_tokens_of_the_original_are_found(buildable, tmp_path):
    before = torch.nn.Linear.reset_parameters
    original = load_original(str(write_stand_in(tmp_path / "wrong", "(lambda t: (t + 1) % 24)")), buildable)
    assert torch.nn.Linear.reset_parameters is before
    assert "reset_parameters" not in vars(torch.nn.BatchNorm2d)
    labels, seeds = torch.tensor([0, 1]), torch.tensor([5, 6])
    found = compare_tokens(original, buildable, labels, seeds, 1.5)
    assert (found["equal_images"], found["equal_up_to_near_ties"]) == (0, False)
    assert found["largest_gap"] > sdvar.NEAR_TIE
    tokens = original.tokens(labels, sdvar.Sampling())
    assert [tuple(part.shape) for part in tokens] == [(2, 1), (2, 4)]


def test_a_checkout_that_does_not_fit(tmp_path, pair):
    folder = tmp_path / "other"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "__init__.py").write_text("")
    with pytest.raises(ValueError, match="expected a checkout of the VAR code that runs here"):
        load_original(str(folder), pair)
    with pytest.raises(ValueError, match=r"width of 64 x depth .* width 48 and 3 heads"):
        load_original(str(write_stand_in(tmp_path / "good")), pair)
