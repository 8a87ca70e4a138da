"""`python -m lightning_modules distil` for the small random target."""

import pytest

from lightning_modules.distilling.command import main

QUICK = "--cfg 1.5 --top_k 8 --top_p 0 --batch_size 8 --held_out 16 --warmup 1 --ema 0.5 --plan_seconds 0 --threads 1"


@pytest.fixture
def distil(pair_files, tmp_path):
    """Runs the command for the small random target; returns the folder."""

    def run(options: str, name: str = "out"):
        models = ["--target", pair_files["target"], "--tokenizer", pair_files["tokenizer"]]
        words = [*map(str, models), *QUICK.split(), "--accelerator", "cpu", *options.split(), "--out"]
        main([*words, str(tmp_path / name)])
        return tmp_path / name

    run.draft, run.tokenizer = pair_files["draft"], pair_files["tokenizer"]
    return run
