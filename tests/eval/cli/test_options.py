"""What the options of several commands share."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from eval import fid
from eval.cli.options import parse
from lightning_modules.arms.arm import build_arm
from sdvar import Spans, Speculative
from tests.paths import ROOT

HEAVY = ("lightning", "pytorch_lightning", "torchmetrics", "datasets")


def test_help_imports_no_heavy_library():
    """It would take seconds more. One process asks every command in turn."""
    code = f"""
import sys
from importlib import import_module
for name in ("fid", "sweep", "measure", "export", "plan", "benchmark"):
    try:
        import_module(f"eval.{{name}}").main(["--help"])
    except SystemExit as stop:
        assert stop.code == 0, name
    print([library for library in {HEAVY} if library in sys.modules], file=sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.count("--out") >= 6
    assert result.stderr == "[]\n" * 6


WRONG = {
    "--draft x": "expected --pair, ",
    "--attention fast": "attention: expected one of auto, math, efficient, flash, products, got 'fast'",
    "--attention maths": "got 'maths'; did you mean math?",
    "--precision 8": "precision: expected one of 64-true, 32-true, bf16-true, 16-true, auto, got 8",
    "--accelerator abacus": "accelerator: expected one of auto, cpu, cuda, gpu, got 'abacus'",
    "--tokenizer_dtype int8": "tokenizer_dtype: expected one of float64, float32, bfloat16, float16, got 'int8'",
    "--threads 0": "threads: expected an int from 1 to 1024, got 0",
    "--threads 100000": "threads: expected an int from 1 to 1024, got 100000",
    "--threads two": "threads: expected an int from 1 to 1024, got 'two'",
    "--graphs maybe": "graphs: expected true or false, got 'maybe'",
    "--sampling.top_k x": "sampling.top_k: expected an int, got 'x'",
    "--cfg high": "sampling.cfg: expected a number, or one per scale such as 1.5,1.5,0; got 'high'",
    "--cfg_until last": "sampling.cfg_until: expected an int, got 'last'",
    "--sampling.temperature warm": "sampling.temperature: expected a number, or one per scale",
    "--nope 1": "unknown option --nope",
    "--config CONFIG": "unknown key sampling.heat",
    "--config NUMBER": "sampling: expected a mapping of cfg, top_k, top_p, temperature, cfg_until, got 3",
}
PARSERS = ("eval.cli.options", "eval.benchmarking.options", "eval.planning.options")


@pytest.mark.parametrize("arguments", WRONG)
@pytest.mark.parametrize("module", PARSERS)
def test_a_wrong_shared_option_gets_the_same_line_from_every_command(module, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("CONFIG").write_text("sampling: {heat: 2}\n")
    Path("NUMBER").write_text("sampling: 3\n")
    with pytest.raises(ValueError) as raised:
        import_module(module).parse(arguments.split())
    message = str(raised.value)
    assert WRONG[arguments] in message and "\n" not in message


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("--devices 0", "devices: expected an int from 1 to 128, auto, or numbers of GPUs such as 0,1, got 0"),
        ("--devices 1000", "devices: expected an int from 1 to 128, auto, or numbers of GPUs such as 0,1, got 1000"),
        ("--num_nodes 1000000", "num_nodes: expected an int from 1 to 10000, got 1000000"),
        ("--repeats 0", "repeats: expected an int >= 1, got 0"),
        ("--seed x", "seed: expected an int, got 'x'"),
        ("--config CONFIG", "config: grid belongs to the config of a sweep: python eval/sweep.py --config FILE"),
    ],
)
def test_a_wrong_option_of_the_main_job_gets_one_line(arguments, error, tmp_path):
    (tmp_path / "config.yaml").write_text("grid: {a: {class_path: Baseline}}\n")
    with pytest.raises(ValueError) as raised:
        parse(arguments.replace("CONFIG", str(tmp_path / "config.yaml")).split())
    assert error in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ("--quiet", {"quiet": True}),
        ("--quiet --seed 3", {"quiet": True, "seed": 3}),
        ("--quiet true --tf32 false", {"quiet": True, "tf32": False}),
        ("--quiet=false --tf32", {"quiet": False, "tf32": True}),
        ("--overwrite False --resize True --graphs", {"overwrite": False, "resize": True, "graphs": True}),
        ("--noise_floor --strategy Baseline", {"noise_floor": True}),
    ],
)
def test_a_flag_takes_true_or_false_or_stands_alone(arguments, given):
    options = parse(arguments.split())
    assert {name: options[name] for name in given} == given


@pytest.mark.parametrize("flag", ["--quiet", "--tf32", "--resize"])
def test_a_flag_takes_nothing_else(flag):
    with pytest.raises(ValueError, match=f"{flag[2:]}: expected true or false, got 'yes'"):
        parse([flag, "yes"])


SPANS = [
    "--strategy Speculative --strategy.gamma Spans --strategy.gamma.scales 3,1,1,1",
    "--strategy Speculative --strategy.gamma Spans --strategy.gamma.scales (3,1,1,1)",
    "--strategy Speculative --strategy.gamma Spans --strategy.gamma.scales [3,1,1,1]",
    "--strategy Speculative --strategy.gamma Spans((3,1,1,1))",
    "--strategy Speculative(gamma=Spans((3,1,1,1)))",
    "--strategy a=Speculative(gamma=Spans(scales=(3,1,1,1)),acceptance=Coupled())",
]


@pytest.mark.parametrize("arguments", SPANS)
def test_a_schedule_is_written_in_any_of_these_ways(arguments):
    (config,) = parse(arguments.split()).strategy.values()
    assert build_arm("x", config).strategy == Speculative(Spans((3, 1, 1, 1)))


def test_a_reseeded_arm_and_numbers_a_scale():
    line = (
        "--strategy a=Baseline --strategy.reseed --strategy b=Baseline --strategy.sampling.temperature 1.1,1,1,1,1 "
        "--strategy.sampling.cfg [2,2,0,0,0] --strategy c=Baseline --strategy.sampling.cfg_until 4"
    )
    arms = parse(line.split()).strategy
    assert arms == {
        "a": {"class_path": "Baseline", "reseed": True},
        "b": {"class_path": "Baseline", "sampling": {"temperature": [1.1, 1, 1, 1, 1], "cfg": [2, 2, 0, 0, 0]}},
        "c": {"class_path": "Baseline", "sampling": {"cfg_until": 4}},
    }


@pytest.mark.parametrize(
    ("config", "error"),
    [
        (
            "model: {pair: tiny}",
            "config: model belongs to a config of Lightning's commands: python -m lightning_modules predict",
        ),
        ("sdvar_run: 1", "config: sdvar_run belongs to a run's settings.yaml: give the config.yaml beside it"),
    ],
)
def test_the_config_of_another_command_is_said_to_be_one(config, error, tmp_path):
    (tmp_path / "c.yaml").write_text(config)
    with pytest.raises(ValueError) as raised:
        parse(["--config", str(tmp_path / "c.yaml")])
    assert str(raised.value).startswith(error)


@pytest.mark.parametrize("module", PARSERS)
def test_sampling_has_short_forms(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = import_module(module).parse(["--cfg", "2", "--top_k=7", "--top_p", "0.5", "--temperature", "1.1"])
    assert options.sampling.as_dict() == {"cfg": 2.0, "top_k": 7, "top_p": 0.5, "temperature": 1.1}
    by_scale = import_module(module).parse(["--cfg", "[1.5, 1.5, 0]", "--cfg_until", "2"]).sampling
    assert (by_scale.cfg, by_scale.cfg_until) == ([1.5, 1.5, 0.0], 2)
    assert import_module(module).parse(["--cfg", "1.5,0"]).sampling.cfg == [1.5, 0.0]


def test_the_strategies_and_their_parameters_are_listed(capsys):
    for arguments in (["--strategy.help"], ["--strategy", "Speculative", "--strategy.help"]):
        with pytest.raises(SystemExit) as stop:
            parse(arguments)
        shown = capsys.readouterr().out
        assert not stop.value.code and max(map(len, shown.splitlines())) <= 120
        for line in ("Handoff(entry, first='draft'", "Spans(scales)", "Match(tau=0.5, keep='draft')", "Baseline("):
            assert f"  {line}" in shown


def test_the_config_that_is_printed_is_the_one_that_runs(tmp_path, capsys):
    assert fid.main(["--print_config", "--seed", "3", "--strategy", "Handoff", "--strategy.entry", "2"]) is None
    shown = capsys.readouterr().out
    config = yaml.safe_load(shown)
    assert (config["seed"], config["labels"], config["images_per_class"]) == (3, "0-9", 100)
    assert config["strategy"]["handoff"]["init_args"] == {"entry": 2, "first": "draft", "prefix": "block_causal"}
    assert config["sampling"]["top_k"] == 60 and config["reference"] == "bundled" and config["threads"] >= 1
    (tmp_path / "c.yaml").write_text(shown)
    fid.main(["--config", str(tmp_path / "c.yaml"), "--print_config"])
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("module", PARSERS)
def test_complete_options_are_plain_and_do_not_change(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = import_module(module).parse(["--threads", "2", "--sampling.cfg", "2"])
    assert (options.threads, options.sampling.cfg) == (2, 2.0)
    assert yaml.safe_load(yaml.safe_dump(options.as_dict())) == options.as_dict()
    for change in (lambda: setattr(options, "threads", 3), lambda: setattr(options.sampling, "cfg", 1)):
        with pytest.raises(AttributeError, match="options do not change"):
            change()
