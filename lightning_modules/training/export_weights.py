"""Write what training made in the form in which it ships."""

import logging
from pathlib import Path
from typing import Literal

import datasets
import torch
from jsonargparse import auto_cli
from PIL import Image
from safetensors.torch import save

from lightning_modules.data.fashion_mnist import CLASS_NAMES, DEFAULT_ROOT, load_fashion_mnist
from lightning_modules.options.command_line import ArgumentParser
from sdvar.system.atomic import write_atomically
from sdvar.system.interrupts import well_behaved

PROG = "python -m lightning_modules.training.export_weights"
DESCRIPTION = """Write what training made in the form in which it ships: weights as safetensors, the test images as
Parquet."""
EXAMPLES = """examples:
  python -m lightning_modules.training.export_weights weights runs/target/last.ckpt target.safetensors --dtype float16
  python -m lightning_modules.training.export_weights test_images fashion_mnist_test.parquet"""

log = logging.getLogger(__name__)


def weights(checkpoint: Path, out: Path, dtype: Literal["float32", "float16", "bfloat16"] = "float32") -> None:
    """Write the (averaged) weights of a Lightning checkpoint under the names that the loaders read.

    Args:
        checkpoint: a file that `fit` wrote for one of the modules in `lightning_modules.training`.
        out: the safetensors file to write.
        dtype: floating-point type of the stored tensors.

    Raises:
        ValueError: the checkpoint contains no network or several, or a tensor is not finite in `dtype`.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    networks = sorted({name.split(".", 1)[0] for name in state})
    if len(networks) != 1:
        raise ValueError(f"{checkpoint}: expected exactly one network, got {', '.join(networks) or 'none'}")
    tensors = {}
    for name, tensor in state.items():
        key = name.split(".", 1)[1]
        if key == "attn_bias_for_masking":  # follows from the pyramid
            continue
        tensors[key] = (tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor).contiguous()
        if not tensors[key].isfinite().all():
            raise ValueError(f"{checkpoint}: {key} is not finite in {dtype}; choose another dtype")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, save(tensors))
    log.info("%s: %d parameters and buffers, %s", out, sum(t.numel() for t in tensors.values()), dtype)


def test_images(out: Path, root: Path = DEFAULT_ROOT) -> None:
    """Write the 10,000 test images (grey PNG, 32 x 32) with their labels as one Parquet file.

    Args:
        out: the Parquet file to write.
        root: folder with the idx files; without them the images come through `datasets`.
    """
    images, labels = load_fashion_mnist("test", root)
    rows = {"image": [Image.fromarray(image) for image in images.squeeze(1).numpy()], "label": labels.tolist()}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASS_NAMES))})
    out.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(rows, features=features).to_parquet(out)
    log.info("%s: %d images", out, len(labels))


@well_behaved(PROG, "no file was changed, give the command again")
def main() -> None:
    """Runs the command; see its --help."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    about = {"prog": PROG, "description": DESCRIPTION, "epilog": EXAMPLES}
    auto_cli([weights, test_images], parser_class=ArgumentParser, exit_on_error=True, **about)


if __name__ == "__main__":
    main()
