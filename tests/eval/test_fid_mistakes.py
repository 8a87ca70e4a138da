"""Mistakes in a command line of the main job: one line each, before any model runs."""

import pytest

from eval import fid


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--pair", "huge"], "pair: expected a bundled pair"),
        (["--draft", "a.pth"], "expected --pair, or --draft, --target and --tokenizer together"),
        (["OPTIONS", "--target", "nowhere.pth"], "nowhere.pth: no such file"),
        (["OPTIONS", "--labels", "0-5"], "labels: expected classes 0 to 4, got 5"),
        (["--labels", "nowhere.txt"], "nor an existing file"),
        (["OPTIONS", "--out", "FILE/run"], "cannot be written"),
        (["OPTIONS", "--out", "TAKEN"], "contains no run"),
        (["--strategy", "Telepathy"], "Speculative, or module.Class, got 'Telepathy'"),
        (["--strategy", "Speculative", "--strategy.gama", "2"], "unknown key gama; did you mean gamma?"),
        (["--strategy", "Speculative", "--strategy.gamma", "0"], "gamma: expected an int >= 1, got 0"),
        (["--strategy", "Handoff"], "strategy 'handoff': missing entry"),
        (["--strategy", "Speculative", "--strategy", "Speculative"], "two arms are called 'speculative'"),
        (["--strategy.gamma", "2"], "expected --strategy [NAME=]CLASS before"),
        (["--strategy"], "expected a value after it"),
        (["OPTIONS", "--sampling.top_k", "-1"], "top_k"),
        (["OPTIONS", "--cfg", "1.5,0"], "cfg: expected one number or 4, one per scale, got 2"),
        (["OPTIONS", "--cfg_until", "5"], "cfg_until: expected 1 to 4, the number of scales, got 5"),
        (
            ["--metrics", "beauty"],
            "metrics: expected a list of is, fid, kid, prc, classes, dup, pairs, cosine, lpips, nll, or",
        ),
        (
            ["--strategy", "baseline_reseeded=Handoff", "--strategy.entry", "2", "--noise_floor"],
            "--noise_floor: another arm is called 'baseline_reseeded'",
        ),
        (["OPTIONS", "--strategy", f"Speculative({2**64})"], "init_args.gamma: expected a number of 64 bits, got 1844"),
        (["OPTIONS", "--batch_size", f"{2**64}"], "batch_size: expected a number of 64 bits, got 1844"),
        (["OPTIONS", "--reference", "nowhere"], "nowhere does not exist"),
        (["OPTIONS", "--feature_extractor", "eyes"], "feature_extractor"),
        (["OPTIONS", "--feature_extractor", "vgg16"], "the weights of vgg16 are not on this machine; give the file"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["OPTIONS", "--attention", "efficient"], "attention: efficient does not run on cpu"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_gets_one_clear_error_before_any_model_runs(
    arguments, error, quick_job, tmp_path, refused, monkeypatch
):
    monkeypatch.setattr("sdvar.decode", lambda *_, **__: pytest.fail("a model ran"))
    download = "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url"
    monkeypatch.setattr(download, lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    (tmp_path / "file").write_text("")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("")
    line = ["--out", str(tmp_path / "run")]
    for text in arguments:
        line += quick_job if text == "OPTIONS" else [text.replace("FILE", str(tmp_path / "file"))]
    line = [text.replace("TAKEN", str(tmp_path / "taken")) for text in line]
    message = refused(fid.main, line)
    assert message.startswith("eval/fid.py: error: ") and error in message
    assert not (tmp_path / "run").exists()


def test_a_reference_of_mixed_sizes_is_refused_before_any_model_runs(quick_job, tmp_path, refused, monkeypatch):
    """Not after hours of decoding, when it is first measured against."""
    from PIL import Image

    monkeypatch.setattr("sdvar.decode", lambda *_, **__: pytest.fail("a model ran"))
    (tmp_path / "photos").mkdir()
    for index, side in enumerate((32, 32, 48)):
        Image.new("RGB", (side, side)).save(tmp_path / "photos" / f"{index}.png")
    assert "all images of a set must have one size" in refused(
        fid.main, [*quick_job, "--reference", str(tmp_path / "photos"), "--out", str(tmp_path / "run")]
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--draft", "target:int7"], "draft: expected one of target:int8, "),
        (["--draft", "target:first=9"], "draft: expected target:first=N with N from 1 to the 8 layers of the target"),
        (
            ["--draft", "target:fp8-dynamic", "--accelerator", "cpu"],
            "does not run on cpu with a target in torch.float32",
        ),
        (["--draft", "target:bf16", "--precision", "bf16-true"], "would be the target; expected one of"),
        (["--strategy", "Speculative", "--strategy.draft", "target:int7"], "draft: expected one of target:int8, "),
        (["--strategy", "Speculative", "--strategy.draft", "target:first=0"], "with N from 1 to the 8 layers"),
    ],
)
def test_a_draft_that_cannot_be_made_is_one_clear_error(words, message, tmp_path, refused):
    assert message in refused(fid.main, [*words, "--out", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()
