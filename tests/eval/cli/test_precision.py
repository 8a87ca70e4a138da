"""`--precision auto`: what it stands for, and that a run keeps it."""

import pytest
import torch
import yaml

from eval.benchmarking import options as benchmark
from eval.cli.options import as_config, parse
from eval.planning import options as plan
from lightning_modules.run.contents import MARKER
from sdvar.models import dtypes


@pytest.fixture
def with_amx(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)


@pytest.fixture
def without(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)


AUTO = ["--accelerator", "cpu", "--precision", "auto"]


@pytest.mark.usefixtures("with_amx")
@pytest.mark.parametrize("module", [benchmark, plan])
def test_every_command_resolves_it_and_says_why(module, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert module.parse(AUTO).precision == "bf16-true"
    assert capsys.readouterr().out == "precision auto: bf16-true, since this CPU has AMX\n"


@pytest.mark.usefixtures("with_amx")
def test_it_is_not_the_default(tmp_path, monkeypatch, capsys):
    """A command makes the same images on every machine."""
    monkeypatch.chdir(tmp_path)
    assert parse([]).precision == benchmark.parse([]).precision == "32-true"
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("with_amx")
def test_the_config_of_a_run_has_what_it_stands_for(tmp_path):
    assert as_config(parse([*AUTO, "--out", str(tmp_path)]))["precision"] == "bf16-true"


@pytest.mark.usefixtures("without")
def test_a_run_that_is_continued_keeps_its_own(tmp_path, capsys):
    """On a machine that would choose another one."""
    settings = {"arms": {}, "labels": [0], "images_per_class": 1, "seed": 0, "batch_size": 1, "device": "cpu"}
    (tmp_path / "settings.yaml").write_text(
        yaml.safe_dump(MARKER | settings | {"precision": "bf16-true"}, sort_keys=False)
    )
    run = [*AUTO, "--out", str(tmp_path)]
    assert parse(run).precision == "bf16-true"
    assert capsys.readouterr().out == "precision auto: bf16-true, since the run that is continued has it\n"
    assert parse([*run, "--overwrite", "true"]).precision == "32-true"
    assert parse([*run, "--precision", "32-true"]).precision == "32-true"


@pytest.mark.usefixtures("without")
@pytest.mark.parametrize(
    "environment",
    [
        {"LOCAL_RANK": "1"},
        {"NODE_RANK": "1", "LOCAL_RANK": "0"},
        {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"},
        {"TORCHELASTIC_RUN_ID": "x", "RANK": "1"},
    ],
    ids=str,
)
def test_the_first_process_alone_says_it(environment, monkeypatch, capsys):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert benchmark.parse(AUTO).precision == "32-true"
    assert capsys.readouterr().out == ""


def test_a_gpu_is_asked_where_the_models_run_on_it(cuda):
    """The simulated one has the compute capability 9.0."""
    assert benchmark.parse(["--precision", "auto"]).precision == "bf16-true"
    assert dtypes.choose_dtype("cuda").dtype == torch.bfloat16
