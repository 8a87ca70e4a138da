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
    assert "ckpt_path: expected a checkpoint of weights and plain values alone" in error
