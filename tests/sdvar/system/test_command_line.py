"""Every command: its help has examples, a mistake costs one line and exit status 2, and the nearest word is named."""

from __future__ import annotations

import importlib
import re
import shlex
import sys

import pytest

from sdvar.system.command_line import check_output, stop
from tests.paths import ROOT

MAINS = {
    "eval/fid.py": "eval.fid",
    "eval/measure.py": "eval.measure",
    "eval/verify.py": "eval.verify",
    "eval/export.py": "eval.export",
    "eval/benchmark.py": "eval.benchmark",
    "eval/benchmark_loading.py": "eval.benchmark_loading",
    "eval/benchmark_writer.py": "eval.benchmark_writer",
    "eval/plan.py": "eval.plan",
    "-m sdvar.selftest": "sdvar.selftest.__main__",
    "-m sdvar.checkpoints": "sdvar.checkpoints.__main__",
    "-m lightning_modules": "lightning_modules.__main__",
    "-m lightning_modules.training.export_weights": "lightning_modules.training.export_weights",
    "examples/compare.py": "examples.compare",
}
PREDICT = "-m lightning_modules predict --config configs/predict_tiny.yaml"


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a command line in this process: (exit status, stdout, stderr)."""

    def run(line: str) -> tuple[int, str, str]:
        command = max((name for name in MAINS if line.startswith(name)), key=len)
        monkeypatch.setattr(sys, "argv", [command.removeprefix("-m "), *shlex.split(line.removeprefix(command))])
        try:
            status = importlib.import_module(MAINS[command]).main()
        except SystemExit as stop:
            status = stop.code
        shown = capsys.readouterr()
        return status or 0, shown.out, shown.err

    return run


@pytest.mark.parametrize("command", MAINS)
def test_help_shows_examples(run, command):
    status, shown, _ = run(f"{command} --help")
    assert status == 0
    assert re.search(rf"^ +python {command}", shown, re.MULTILINE)


@pytest.mark.parametrize(
    "command", [*MAINS, "-m sdvar.checkpoints convert", "-m lightning_modules predict", "-m lightning_modules distil"]
)
def test_help_shows_defaults(run, command):
    """Each option either states its default in words or has it added; `null` says nothing to a user."""
    _, shown, _ = run(f"{command} --help")
    assert "default: null" not in shown


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("eval/fid.py --batchsize 3", "unknown option --batchsize; did you mean --batch_size?"),
        ("eval/fid.py --batchsize=3 --sed 1", "--batchsize; did you mean --batch_size?, unknown option --sed; did"),
        ("eval/fid.py --sampling.topk 3", "unknown option --sampling.topk; did you mean --sampling.top_k?"),
        ("eval/fid.py --zzz 3", "unknown option --zzz\n"),
        ("eval/fid.py --batch 3", "unknown option --batch; did you mean --batch_size?"),  # no abbreviations
        ("eval/fid.py runs/fid", "unexpected argument 'runs/fid'"),
        ("eval/fid.py --config KEYS", "unknown key images_perclass; did you mean images_per_class?"),
        ("eval/fid.py --strateg Baseline", "unknown option --strateg; did you mean --strategy?"),
        ("eval/fid.py --strategy Speculativ", "got 'Speculativ'; did you mean Speculative?"),
        ("eval/fid.py --strategy Speculative --strategy.gama 2", "unknown key gama; did you mean gamma?"),
        (
            "eval/fid.py --strategy Speculative --strategy.gamma 2 --strategy.acceptance Copled",
            "got 'Copled'; did you mean Coupled?",
        ),
        (
            "eval/fid.py --strategy Speculative --strategy.gamma TokenBuget --strategy.gamma.n 9",
            "did you mean TokenBudget?",
        ),
        ("eval/measure.py --ot runs/fid", "unknown option --ot; did you mean --out?"),
        ("eval/measure.py", "out"),
        ("eval/export.py --out runs/fid --arn baseline x.npz", "unknown option --arn; did you mean --arm?"),
        ("eval/benchmark.py --random_weight d16", "unknown option --random_weight; did you mean --random_weights?"),
        ("eval/benchmark.py --strategy Bseline", "got 'Bseline'; did you mean Baseline?"),
        ("eval/benchmark_loading.py --dept 3", "unknown option --dept; did you mean --depth?"),
        ("eval/benchmark_loading.py --depth 0", "--depth: expected an int from 1 to 999999999, got '0'"),
        ("-m sdvar.selftest --dtyp float64", "unknown option --dtyp; did you mean --dtype?"),
        ("-m sdvar.selftest --dtype float", "expected one of float64, float32, bfloat16, float16, auto, got 'float'"),
        ("-m sdvar.checkpoints inspekt a.pth", "got 'inspekt'; did you mean inspect?"),
        ("-m sdvar.checkpoints convert a.pth b.safetensors --dtpe float16", "did you mean --dtype?"),
        ("-m sdvar.checkpoints convert nowhere.pth b.safetensors", "nowhere.pth: no such file"),
        ("-m lightning_modules predct", "got 'predct'; did you mean predict?"),
        ("-m lightning_modules distil --dept 2", "unknown option --dept; did you mean --depth?"),
        ("-m lightning_modules predict --config nowhere.yaml", "nowhere.yaml"),
        (f"{PREDICT} --trainer.acelerator cpu", "--trainer.acelerator; did you mean --trainer.accelerator?"),
        (f"{PREDICT} --model.pare tiny", "unknown key pare; did you mean pair?"),
        (f"{PREDICT} --data.image_per_class 2", "unknown key image_per_class; did you mean images_per_class?"),
        (f"{PREDICT} --model.pair huge", "pair: expected a bundled pair (tiny), got 'huge'"),
        (f"{PREDICT} --model.sampling.top_k -1", "top_k"),
        ("-m lightning_modules predict --config CLASS", "has no attribute 'Copled'; did you mean Coupled?"),
        (f"{PREDICT} --trainer.accelerator gpu", "trainer.accelerator: gpu asked for, 0 found; --trainer"),
        (f"{PREDICT} --trainer.strategy ddp_spawn", "trainer.strategy: ddp_spawn cannot hand the models to its"),
        (f"{PREDICT} --local-rank=0", "which torch.distributed.launch adds; start the command with torchrun"),
        ("eval/fid.py --local-rank=0", "which torch.distributed.launch adds; start the command with"),
        (f"{PREDICT} --data.labels 0-20", "labels: expected classes 0 to 9, got "),
        ("-m lightning_modules.training.export_weights weight a.ckpt", "got 'weight'; did you mean weights?"),
        ("-m lightning_modules.training.export_weights weights nowhere.ckpt b.safetensors", "nowhere.ckpt"),
        ("examples/compare.py --gama 2", "unknown option --gama; did you mean --gamma?"),
        ("examples/compare.py --gamma 0", "gamma: expected an int >= 1, got 0"),
        ("examples/compare.py --entry_num 7", "entry_num: expected 0 to 6, the number of scales, got 7"),
        ("examples/compare.py --out compare.txt", "--out: expected a name that ends in .png"),
    ],
)  # fmt: skip
def test_a_mistake_costs_one_line(run, monkeypatch, tmp_path, line, error):
    monkeypatch.chdir(tmp_path)  # where no run is
    monkeypatch.setattr("sdvar.decode", lambda *_, **__: pytest.fail("a model ran"))
    keys, config = tmp_path / "keys.yaml", tmp_path / "class.yaml"
    keys.write_text("images_perclass: 3\n")
    config.write_text((ROOT / "configs/predict_tiny.yaml").read_text().replace("sdvar.Coupled", "sdvar.Copled"))
    line = line.replace("KEYS", str(keys)).replace("CLASS", str(config)).replace(" configs/", f" {ROOT}/configs/")
    status, shown, said = run(line)
    (said,) = re.findall(r"^.*: error: .*\n", said, re.MULTILINE)  # Lightning may have said which devices there are
    assert status == 2 and error in said and not shown
    assert said.startswith("python -m ") or said.startswith(line.split()[0])
    assert "Traceback" not in said


def test_stop_prints_one_line_and_exits_with_2(capsys, caplog):
    caplog.set_level("DEBUG", "sdvar")
    with pytest.raises(SystemExit) as stopped:
        stop("eval/fid.py", ValueError("two  spaces stay,\n  lines are joined"))
    assert stopped.value.code == 2
    assert capsys.readouterr() == ("", "eval/fid.py: error: two  spaces stay, lines are joined\n")
    assert "ValueError" in caplog.text  # the traceback, for who asks


def test_an_output_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    check_output(None)
    check_output(str(tmp_path / "new.json"))
    assert not list(tmp_path.iterdir())
    for out in (tmp_path, tmp_path / "none" / "new.json", "/proc/new.json"):
        with pytest.raises(ValueError, match=f"out: expected a file that can be written, got {out}"):
            check_output(str(out))


@pytest.mark.parametrize(
    ("line", "shapes"),
    [("inspect {} --shapes", True), ("inspect --shapes {}", True), ("inspect --shapes false {}", False)],
)
def test_a_flag_before_a_file_takes_true_or_false_alone(line, shapes, monkeypatch, tmp_path):
    from sdvar.checkpoints.__main__ import build_parser

    monkeypatch.setenv("HOME", str(tmp_path))
    options = build_parser().parse_args(line.format("~/a.pth").split())
    assert (options.files, options.shapes) == ([str(tmp_path / "a.pth")], shapes)
