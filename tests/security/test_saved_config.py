"""The config that a run of Lightning leaves is never written over one of the user's own."""

from __future__ import annotations

import pytest

from lightning_modules.__main__ import main
from tests.paths import ROOT

pytestmark = pytest.mark.filterwarnings("ignore:LightningCLI's args")


def predict(tmp_path):
    config = str(ROOT / "configs/predict_tiny.yaml")
    line = ["predict", "--config", config, "--data.labels", "1", "--data.images_per_class", "1"]
    line += ["--model.arms", '[{"name": "baseline", "strategy": {"class_path": "sdvar.Baseline"}}]']
    main([*line, "--trainer.default_root_dir", str(tmp_path / "root")])


@pytest.mark.parametrize("kind", ["link", "mine", "lightning"])
@pytest.mark.one_in(3)
def test_a_config_of_the_users_own_stays(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "root").mkdir()
    file = tmp_path / "root/config.yaml"
    if kind == "link":
        file.symlink_to(tmp_path / "mine.yaml")
        file = tmp_path / "mine.yaml"
    text = "# lightning.pytorch==2.6.6\nmodel: {}\n" if kind == "lightning" else "mine"
    file.write_text(text)
    with pytest.raises(SystemExit):
        predict(tmp_path)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "root/config.yaml is not the config of a run; move it away" in error
    assert file.read_text() == text and not list(tmp_path.rglob("*.png"))


def test_the_config_of_an_earlier_run_is_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    predict(tmp_path)
    file = tmp_path / "root/config.yaml"
    file.write_text(file.read_text() + "# edited\n")
    predict(tmp_path)
    assert "# edited" not in file.read_text()
