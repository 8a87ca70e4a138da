"""The processes and GPUs that --devices names."""

import pytest
import torch

from eval.cli.options import parse
from lightning_modules.processes.devices import count, read_devices


def machine(monkeypatch, gpus):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)


@pytest.mark.parametrize(
    ("given", "accelerator", "gpus", "devices"),
    [
        (3, "auto", 0, 3),
        ("auto", "auto", 0, 1),
        ("auto", "auto", 4, 4),
        ("auto", "cpu", 4, 1),
        ("0,1", "auto", 2, [0, 1]),
        ("1, 3", "cuda", 4, [1, 3]),
        ("2,", "gpu", 4, [2]),
        ([0, 2], "auto", 4, [0, 2]),
    ],
)
def test_devices(given, accelerator, gpus, devices, monkeypatch):
    machine(monkeypatch, gpus)
    assert read_devices(given, accelerator) == devices
    assert count(devices) == (devices if isinstance(devices, int) else len(devices))


@pytest.mark.parametrize(
    ("given", "accelerator", "gpus", "error"),
    [
        ("0,1", "auto", 0, "'0,1' are numbers of GPUs; on a CPU give the number of processes"),
        ("0,1", "cpu", 2, "'0,1' are numbers of GPUs; on a CPU give the number of processes"),
        ("0,2", "auto", 2, "expected numbers of GPUs from 0 to 1, got '0,2'"),
        ("0,0", "auto", 2, "expected an int from 1 to 128, auto, or numbers of GPUs such as 0,1, got '0,0'"),
        ("all", "auto", 2, "expected an int from 1 to 128, auto, or numbers of GPUs such as 0,1, got 'all'"),
        (-1, "auto", 2, "expected an int from 1 to 128, auto, or numbers of GPUs such as 0,1, got -1"),
        ([], "auto", 2, "expected an int from 1 to 128, auto, or numbers of GPUs such as 0,1, got []"),
    ],
)
def test_devices_that_are_not_there(given, accelerator, gpus, error, monkeypatch):
    machine(monkeypatch, gpus)
    with pytest.raises(ValueError) as raised:
        read_devices(given, accelerator)
    assert str(raised.value) == f"devices: {error}"


def test_the_option_and_the_config_take_them(monkeypatch, tmp_path):
    machine(monkeypatch, 2)
    (tmp_path / "c.yaml").write_text("devices: [0, 1]\n")
    for line in (["--devices", "0,1"], ["--devices=0,1"], ["--config", str(tmp_path / "c.yaml")]):
        options = parse(line)
        assert options.devices == [0, 1]
    assert parse(["--devices", "auto"]).devices == 2
