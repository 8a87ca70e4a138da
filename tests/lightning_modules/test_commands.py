"""`python -m lightning_modules`: the shipped configs parse, and a part trains and is exported by the real commands."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.paths import ROOT

CONFIGS = [file for file in sorted((ROOT / "configs").glob("*.yaml")) if not file.stem.startswith(("fid_", "sweep_"))]


def command(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess:
    result = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return result


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_build_their_model_and_data(config, pair_files, monkeypatch):
    from lightning.pytorch.cli import LightningCLI

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["lightning_modules"])
    sections = {"model", "data", "seed_everything", "trainer"}
    settings = {key: value for key, value in yaml.safe_load(config.read_text()).items() if key in sections}
    if config.stem == "distil_draft":  # it starts from a draft that has yet to be trained
        settings["model"]["init_args"]["start"] = settings["model"]["init_args"]["target"]
    if config.stem == "predict_imagenet":  # its files are large and its GPUs many
        settings["model"]["init_args"]["pair"] = {name: str(file) for name, file in pair_files.items()}
        settings["trainer"] |= {"accelerator": "cpu", "devices": 1}
    cli = LightningCLI(
        args=settings, run=False, save_config_callback=None, subclass_mode_model=True, subclass_mode_data=True
    )
    assert cli.model is not None and cli.datamodule is not None
    for callback in cli.trainer.callbacks:  # a new run must not leave its weights beside an earlier one's
        assert getattr(callback, "_enable_version_counter", False) is False


@pytest.mark.parametrize("scales", [6, 5])
def test_numbers_a_scale_are_checked_against_the_pyramid(scales, monkeypatch):
    from lightning.pytorch.cli import LightningCLI

    monkeypatch.setattr(sys, "argv", ["lightning_modules"])
    model = yaml.safe_load((ROOT / "configs" / "predict_tiny.yaml").read_text())["model"]
    model["init_args"]["sampling"] |= {"temperature": [1.1] * scales, "cfg": [*[2.0] * 5, 0.0], "cfg_until": 4}
    options = {"run": False, "save_config_callback": None, "subclass_mode_model": True}
    if scales == 6:
        cli = LightningCLI(args={"model": model}, **options)
        sampling = cli.model.settings()["sampling"]
        assert sampling["temperature"] == (1.1,) * 6
        assert (sampling["cfg"], sampling["cfg_until"]) == ((*[2.0] * 5, 0.0), 4)
    else:
        with pytest.raises(ValueError, match="temperature: expected one number or 6, one per scale, got 5"):
            LightningCLI(args={"model": model}, **options)


@pytest.mark.proof
def test_fit_and_export_by_the_real_commands(tmp_path):
    """The feature net, on a few images made here in the format of the real ones."""
    import gzip

    generator = torch.Generator().manual_seed(0)
    for name, count in (("train", 80), ("t10k", 20)):
        pixels = torch.randint(256, (count, 28, 28), generator=generator, dtype=torch.uint8)
        labels = (torch.arange(count) % 10).to(torch.uint8)
        (tmp_path / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"\0" * 16 + pixels.numpy().tobytes()))
        (tmp_path / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"\0" * 8 + labels.numpy().tobytes()))
    config = yaml.safe_load((ROOT / "configs" / "train_feature_net.yaml").read_text())
    config["data"]["init_args"] |= {"root": str(tmp_path), "batch_size": 16, "held_out": 16}
    config["trainer"] |= {"max_epochs": 1}
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(config))
    command("lightning_modules", "fit", "--config", tmp_path / "fit.yaml", cwd=tmp_path)
    last = tmp_path / "runs" / "feature_net" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 4
    command("lightning_modules.training.export_weights", "weights", last, tmp_path / "net.safetensors", cwd=tmp_path)
    shipped = load_file(ROOT / "eval" / "bundled" / "feature_net.safetensors")
    made = load_file(tmp_path / "net.safetensors")
    assert {key: value.shape for key, value in made.items()} == {key: value.shape for key, value in shipped.items()}
