"""The scripts in examples/."""

import re

import pytest
import torch

from examples import compare


def test_the_prototypes_comparison(tmp_path, capsys):
    """Lossless: no metric differs from the baseline's; the hand-off's do, and the picture has them all."""
    compare.main(["--B", "2", "--device", "cpu", "--threads", "1", "--out", str(tmp_path / "new" / "compare.png")])
    rows = dict(re.findall(r"^(\w[\w ]+?)  +([-\d].*)$", capsys.readouterr().out, re.MULTILINE))
    values = {name: [float(cell) for cell in cells.split()] for name, cells in rows.items()}
    assert values["mean absolute difference"][:2] == values["L2 distance"][:2] == [0, 0]
    assert values["correlation"][1] == 1 and values["images that differ"] == [0, 0, 2]
    assert values["mean absolute difference"][2] > 0.01 and values["correlation"][2] < 0.99
    assert all(low >= 0 for low in values["lowest value"]) and all(high <= 1 for high in values["highest value"])
    assert (tmp_path / "new" / "compare.png").stat().st_size > 10_000


def test_its_metrics():
    baseline = torch.tensor([[0.0, 0.5], [1.0, 0.5]]).view(2, 1, 1, 2)
    found = compare.metrics(torch.tensor([[0.0, 0.5], [0.6, 0.8]]).view(2, 1, 1, 2), baseline)
    assert found["mean absolute difference"] == pytest.approx(0.7 / 4)
    assert found["L2 distance"] == pytest.approx(0.5)
    assert found["highest value"] == pytest.approx(0.8) and found["images that differ"] == 1
