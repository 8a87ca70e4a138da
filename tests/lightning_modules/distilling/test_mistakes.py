"""What `distil` refuses, in one line and before anything is trained or written over."""

import shutil

import pytest

import sdvar
from sdvar.models import quantized


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ("--steps 3", "depth: expected an int >= 1 with --init scratch, got none"),
        ("--depth 0", "depth: expected an int >= 1, got 0"),
        ("--depth 2 --role tale --from_scale 2", "role: expected one of draft, coarse, tail, got 'tale'"),
        ("--depth 2 --role tail", "from_scale: expected an int >= 1 with role tail, got None"),
        ("--depth 2 --from_scale 2", "from_scale: expected none with role draft, got 2"),
        (
            "--depth 2 --role tail --from_scale 4",
            "from_scale: expected an int from 1 to 3 with role tail, for a target",
        ),
        ("--init layers=0,two", "init: expected numbers of layers, [FILE:]layers=0,4,8; got 'layers=0,two'"),
        ("--init DRAFT:layers=1", "init: expected layers from 0 to 0 of "),
        ("--init nowhere.pth:layers=1", "nowhere.pth: no such file"),
        ("--init layers=0,2", "init: expected layers from 0 to 1 of the target, got 2"),
        ("--init layers=0,0", "init: expected each layer once, got 0,0"),
        ("--init layers=0,1 --depth 3", "depth: expected 2, the layers of --init layers=0,1, or none; got 3"),
        (
            "--init layers=0 --width 64",
            "width: expected 48, that of the target, whose layers are taken, or none; got 64",
        ),
        ("--init nowhere.pth", "nowhere.pth: no such file"),
        ("--init DRAFT --depth 2", "depth: expected 1, that of "),
        ("--init TOKENIZER", "tokenizer"),
        ("--depth 2 --width 30 --heads 4", "heads: expected a divisor of the width 30, got 4"),
        ("--depth 99999 --width 99968", "width: training"),
        ("--depth 2 --batch_size 7 --accumulate 2", "batch_size: expected a multiple of devices x num_nodes x acc"),
        ("--depth 2 --temperature 1,2", "temperature: expected one number or 4, one per scale, got 2"),
        ("--depth 2 --target TOKENIZER", "tokenizer"),
        ("--depth 2 --tokenizer DRAFT", "VAR"),
        ("--depth 2 --tokenizer OTHER", "tokenizer.safetensors: does not fit the VQVAE"),
        ("--depth 2 --pair tiny", "expected --pair, or --target and --tokenizer together; got --pair, --target"),
        ("--depth 2 --tokens nowhere", "nowhere has no token shards; as a run: nowhere contains no run"),
        ("--depth 2 --accelerator cuda", "devices: 1 GPUs asked for, 0 found; --accelerator cpu needs none"),
        ("--depth 2 --loss_weights savings", "loss_weights: savings follow from measured passes; give --plan_seconds"),
        ("--depth 2 --devices 0", "devices: expected an int from 1 to 128"),
        ("--depth 2 --num_nodes 2", "num_nodes: 2 nodes need a launcher on each"),
        (
            "--depth 2 --cfg 0 --guidance inside",
            "guidance: expected outside with cfg 0, which guides no scale, got inside",
        ),
        ("--depth 2 --rounded int8-dynamic", "rounded: expected one of int8, int4, fp8, got 'int8-dynamic'"),
        ("--dept 2", "unknown option --dept; did you mean --depth?"),
    ],
)
def test_a_mistake_costs_one_line(distil, options, error, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lightning.pytorch.Trainer.fit", lambda *_, **__: pytest.fail("it trained"))
    names = {"DRAFT": distil.draft, "TOKENIZER": distil.tokenizer, "OTHER": sdvar.checkpoints.BUNDLED / "tiny"}
    names["OTHER"] /= "tokenizer.safetensors"
    for name, file in names.items():
        options = options.replace(name, str(file))
    with pytest.raises(SystemExit) as stopped:
        distil(options)
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert stopped.value.code == 2 and error in said and said.startswith("python -m lightning_modules distil: error: ")
    assert not (tmp_path / "out").exists()


def test_a_rounding_that_does_not_run_here_is_one_line(distil, monkeypatch, capsys):
    def error() -> str:
        with pytest.raises(SystemExit):
            distil("--depth 1 --rounded int4")
        return capsys.readouterr().err

    monkeypatch.setattr(quantized, "_runs", lambda kind, *_: kind != "int4")
    assert "error: rounded: int4 does not run on cpu; expected int8, fp8\n" in error()

    def missing() -> None:
        raise ModuleNotFoundError("No module named 'torchao'", name="torchao")

    monkeypatch.setattr(quantized, "_torchao", missing)
    assert "error: rounded: int4 needs the package torchao, which comes with the commands: pip install" in error()


def test_no_folder_is_written_over(distil, capsys, tmp_path):
    options = "--depth 1 --width 32 --heads 2 --steps 1"
    folder = distil(options)
    kept = (folder / "draft.safetensors").read_bytes()

    def refused(more: str, name: str = "out") -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit):
            distil(options + more, name)
        return capsys.readouterr().err

    assert "exists, its training is finished" in refused("")
    shutil.copytree(folder, tmp_path / "begun", ignore=shutil.ignore_patterns("draft.*"))
    assert "training with other settings (lr 0.001, now 0.1)" in refused(" --lr 0.1", "begun")
    (tmp_path / "begun" / "last.ckpt").write_bytes(b"no checkpoint")
    assert "last.ckpt is damaged or no checkpoint of a training" in refused("", "begun")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    assert "expected a new or empty folder" in refused("", "full")
    assert (folder / "draft.safetensors").read_bytes() == kept


@pytest.mark.parametrize(
    ("started", "error"), [("many", "expected a number in WORLD_SIZE"), ("3", "started 3 processes")]
)
def test_a_launchers_processes_are_those_that_are_asked_for(distil, started, error, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", started)
    with pytest.raises(SystemExit):
        distil("--depth 2")
    assert error in capsys.readouterr().err
