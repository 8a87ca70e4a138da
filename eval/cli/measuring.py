"""The options of what is measured, which `eval/fid.py` and `eval/measure.py` share."""

from __future__ import annotations

from typing import Any

from eval.metrics import registry
from eval.metrics.decoding import likelihood
from eval.metrics.images import formats
from lightning_modules.options.command_line import ArgumentParser, Count

Texts = str | list[str] | None
EXTRACTOR_HELP = "fashion-mnist-128 (bundled), inception-v3-compat (own), others of torch-fidelity; or a list of them"
MEASURING: dict[str, tuple[Any, Any, str]] = {  # type, default, help
    "reference": (str | None, None, formats.HELP),
    "resize": (bool, False, "bring the reference's images to the run's size: halved by BOX, BICUBIC, the middle cut "
               "out, as ADM's are"),
    "metrics": (list[str] | str, registry.DEFAULTS, registry.HELP),
    "repeats": (Count, 1, "decode the images this many times, each time with other seeds; report mean and range of the "
                "metrics"),
    "likelihood_images": (Count, likelihood.IMAGES, "images of each arm that nll scores at most, evenly spaced"),
    "feature_extractor": (Texts, None, EXTRACTOR_HELP),
    "feature_extractor_weights": (Texts, None, "its weights file; of several networks a list of NAME=FILE; or "
                                  "download, which fetches them"),
    "lpips_weights": (str | None, None, "file with torchvision's AlexNet or VGG16, from which the metric lpips is "
                      "taken; it is then measured"),
}  # fmt: skip
NO_CACHE_HELP = (
    "extract the reference's features anew; otherwise those of an earlier command are taken, see $SDVAR_CACHE"
)


def add_measuring(parser: ArgumentParser, again: bool = False) -> None:
    """Adds them; ``again`` for a run that has them already: None where one is not given."""
    for name, (kind, default, text) in MEASURING.items():
        if again:
            kind, default = kind | None, None
        parser.add_argument(f"--{name}", type=kind, default=default, help=text)
    parser.add_argument("--no_cache", type=bool, default=False, help=NO_CACHE_HELP)
