"""Write what training made in the form in which it ships."""

import logging
import sys
from pathlib import Path
from typing import Literal

import torch

from lightning_modules.data.fashion_mnist import CLASS_NAMES, DEFAULT_ROOT, load_fashion_mnist

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
        ValueError: if the checkpoint holds no or several networks, or a tensor is not finite in `dtype`.
    """
    from safetensors.torch import save_file

    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    networks = {name.split(".", 1)[0] for name in state}
    if len(networks) != 1:
        raise ValueError(f"{checkpoint} must hold exactly one network, found {sorted(networks) or 'none'}")
    tensors = {}
    for name, tensor in state.items():
        key = name.split(".", 1)[1]
        if key == "attn_bias_for_masking":  # follows from the pyramid
            continue
        tensors[key] = tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor
        tensors[key] = tensors[key].contiguous()
        if not tensors[key].isfinite().all():
            raise ValueError(f"{key} of {checkpoint} is not finite in {dtype}; choose another dtype")
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out)
    log.info("%s: %d parameters and buffers, %s", out, sum(t.numel() for t in tensors.values()), dtype)


def test_images(out: Path, root: Path = DEFAULT_ROOT) -> None:
    """Write the 10,000 test images (grey PNG, 32 x 32) with their labels as one Parquet file.

    Args:
        out: the Parquet file to write.
        root: folder with the idx files; without them the images come through `datasets`.
    """
    from datasets import ClassLabel, Dataset, Features, Image
    from PIL import Image as PILImage

    images, labels = load_fashion_mnist("test", root)
    rows = {
        "image": [PILImage.fromarray(image) for image in images.squeeze(1).numpy()],
        "label": labels.tolist(),
    }
    features = Features({"image": Image(), "label": ClassLabel(names=list(CLASS_NAMES))})
    out.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(rows, features=features).to_parquet(out)
    log.info("%s: %d images", out, len(labels))


def main() -> None:
    """Runs the command; see its --help."""
    from jsonargparse import auto_cli

    from lightning_modules.command_line import ArgumentParser

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    prog = "python -m lightning_modules.training.export_weights"
    about = {"prog": prog, "description": DESCRIPTION, "epilog": EXAMPLES}
    try:
        auto_cli([weights, test_images], parser_class=ArgumentParser, exit_on_error=True, **about)
    except (ValueError, OSError) as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
