"""The main job from Python."""

import json

import numpy as np
import pytest
import torch

import eval
import sdvar
from eval.main_job import in_python
from eval.main_job.in_python import read_options

OPTIONS = {"labels": "0-2", "images_per_class": 1, "batch_size": 3, "threads": 1, "accelerator": "cpu"}


def test_the_main_job_returns_what_metrics_json_holds(pair_files, tmp_path, capsys, monkeypatch):
    strategy = {"fast": sdvar.Speculative(2, sdvar.Match(0.5)), "late": "Handoff(2)"}
    options = {**pair_files, **OPTIONS, "strategy": strategy, "metrics": "pairs"}
    options["sampling"] = sdvar.Sampling(cfg=[2.0, 2.0, 0.0, 0.0], cfg_until=3)
    metrics = eval.run(**options, out=tmp_path / "run")
    assert capsys.readouterr().out == ""
    assert metrics == json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert list(metrics["arms"]) == ["baseline", "fast", "late"] and (tmp_path / "run" / "report.html").is_file()
    assert metrics["arms"]["fast"]["strategy"] == str(strategy["fast"])
    assert metrics["config"]["sampling"] == {
        "cfg": [2.0, 2.0, 0.0, 0.0], "top_k": 0, "top_p": 0.0, "temperature": 1.0, "cfg_until": 3,
    }  # fmt: skip
    decode = in_python.prepare
    monkeypatch.setattr(in_python, "prepare", None)
    assert eval.run(**options, out=tmp_path / "run") == metrics  # it is finished: no model is loaded
    assert capsys.readouterr().out == f"out: {tmp_path / 'run'} has 9 of 9 images of all arms already\n"

    files = {"metrics.json": b"{}", "report.html": None, "late/000/000002.png": b"", "fast/manifest.csv": b""}
    for name, content in files.items():  # what somebody touched is looked at in full, and made again
        file = tmp_path / "run" / name
        before = file.read_bytes()
        file.unlink() if content is None else file.write_bytes(content)
        with pytest.raises(TypeError, match="NoneType"):
            eval.run(**options, out=tmp_path / "run")
        file.write_bytes(before)
    for changed in ({"metrics": "none"}, {"threads": 2}, {"overwrite": True}, {"draft": pair_files["target"]}):
        with pytest.raises(TypeError, match="NoneType"):
            eval.run(**options | changed, out=tmp_path / "run")
    (tmp_path / "run" / "metrics.json").write_text("{}")
    monkeypatch.setattr(in_python, "prepare", decode)
    assert eval.run(**options, out=tmp_path / "run")["arms"] == metrics["arms"]


def test_arguments_override_a_config(tmp_path):
    (tmp_path / "c.yaml").write_text("seed: 3\nlabels: 0-4\nsampling: {cfg: 3.0}\n")
    options = read_options(str(tmp_path / "c.yaml"), {"seed": 4, "sampling": {"top_k": 7}})
    assert (options.seed, options.labels, options.sampling.cfg, options.sampling.top_k) == (4, "0-4", 3.0, 7)
    assert options.images_per_class == 100 and options.pair == "tiny"


@pytest.mark.parametrize("labels", [range(1, 3), (1, 2), np.arange(1, 3), torch.tensor([1, 2]), [np.int64(1), 2]])
def test_values_may_be_what_python_has(labels, tmp_path):
    given = {"labels": labels, "metrics": ("pairs", "nll"), "batch_size": np.int64(5), "out": tmp_path}
    options = read_options(None, given)
    assert (options.labels, options.metrics) == ([1, 2], ["pairs", "nll"])
    assert (options.batch_size, options.out) == (5, str(tmp_path))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"devices": 2}, "devices: expected 1 from Python; for more processes run python eval/fid.py"),
        ({"seed": "x"}, "seed: expected an int, got 'x'"),
        ({"sed": 1}, "unknown key sed; did you mean seed?"),
        ({"strategy": {"a": 3}}, "strategy 'a': expected a mapping with class_path and init_args, got 3"),
        ({"sampling": sdvar.Sampling(more_smooth=True)}, "sampling.more_smooth: expected False"),
        ({"config": "nowhere.yaml"}, "config: no such file: nowhere.yaml"),
        ({"quiet": "yes"}, "quiet: expected true or false, got 'yes'"),
        ({"config": {"seed": 1}}, "config: expected the path of a YAML file, got {'seed': 1}"),
        ({"out": ""}, "out: expected the path of a folder, got ''"),
    ],
)
def test_a_mistake_is_a_value_error_of_one_line(options, error):
    with pytest.raises(ValueError) as raised:
        eval.run(**options)
    assert error in str(raised.value) and "\n" not in str(raised.value)
