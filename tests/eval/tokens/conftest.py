"""Images stored as tokens, which the tests of this folder share."""

import numpy as np
import pytest
from PIL import Image

from eval.tokens import main as store_tokens
from lightning_modules.distilling.tokens.stored import Wanted
from sdvar.checkpoints import digest
from tests.eval.tokens import SAMPLING


@pytest.fixture(scope="package")
def models(pair_files):
    return [f"--{name}={pair_files[name]}" for name in ("target", "tokenizer")]


@pytest.fixture(scope="package")
def store(models):
    """Runs the command for the small random target."""

    def run(options: str, out) -> None:
        quick = "--top_k 0 --top_p 0 --batch_size 4 --shard 4 --accelerator cpu --threads 1"
        store_tokens([*models, *quick.split(), *options.split(), "--out", str(out)])

    return run


@pytest.fixture(scope="package")
def stored(store, tmp_path_factory):
    """Ten images in three shards, to look at, not to change."""
    out = tmp_path_factory.mktemp("stored") / "tokens"
    store("--images 10", out)
    return out


@pytest.fixture(scope="package")
def wanted(pair, pair_files):
    weights = {name: digest(pair_files[name]) for name in ("target", "tokenizer")}
    return Wanted(weights, SAMPLING, pair.pyramid.patch_nums, pair.num_classes)


@pytest.fixture(scope="package")
def photos(tmp_path_factory):
    """Four images of two classes, of a size that is not the tokenizer's."""
    folder, noise = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name in ("3/b.png", "3/a.png", "1/c.png", "1/deep/d.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (40, 64, 3), dtype=np.uint8)).save(folder / name)
    return folder
