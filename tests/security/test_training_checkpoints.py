"""A checkpoint that somebody sent runs no code when training or predicting continues from it."""

from __future__ import annotations

import os

import pytest
import torch

from lightning_modules.__main__ import main
from tests.paths import ROOT


class Payload:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark) -> None:
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


@pytest.mark.parametrize(
    "command", ["fit --config configs/train_target.yaml", "predict --config configs/predict_tiny.yaml"]
)
@pytest.mark.parametrize("damaged", [False, True])
def test_a_checkpoint_with_code_is_refused_unrun(command, damaged, tmp_path, monkeypatch, capsys):
    file, mark = tmp_path / "last.ckpt", tmp_path / "mark"
    torch.save({"state_dict": {}, "epoch": 0, "extra": Payload(mark)}, file)
    if damaged:
        file.write_bytes(file.read_bytes()[:-40])
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stopped:
        main([*command.split(), "--ckpt_path", str(file)])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert stopped.value.code == 2 and not mark.exists()
    assert "ckpt_path: expected a checkpoint of Lightning, of weights and plain values alone" in error


def test_a_class_that_a_checkpoint_names_is_not_imported(tmp_path, monkeypatch):
    mark = tmp_path / "mark"
    (tmp_path / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Rule: pass\n")
    named = {"_instantiator": "lightning.pytorch.cli.instantiate_module", "_class_path": "evil.Rule"}
    content = {"state_dict": {}, "epoch": 0, "hyper_parameters": named, "pytorch-lightning_version": "2.6.6"}
    torch.save(content, tmp_path / "last.ckpt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    line = ["predict", "--config", str(ROOT / "configs/predict_tiny.yaml"), "--data.labels", "1"]
    line += ["--model.arms", '[{"name": "baseline", "strategy": {"class_path": "sdvar.Baseline"}}]']
    main([*line, "--data.images_per_class", "1", "--ckpt_path", "last.ckpt"])
    assert list(tmp_path.rglob("*.png")) and not mark.exists()


@pytest.mark.parametrize("kind", ["list", "other", "pipe"])
def test_what_is_no_checkpoint_of_lightning_is_one_line(kind, tmp_path, monkeypatch, capsys):
    file = tmp_path / "last.ckpt"
    os.mkfifo(file) if kind == "pipe" else torch.save([] if kind == "list" else {"state_dict": {}}, file)
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit):
        main(["predict", "--config", "configs/predict_tiny.yaml", "--ckpt_path", str(file)])
    assert "ckpt_path: expected a checkpoint of Lightning" in capsys.readouterr().err.strip().splitlines()[-1]
