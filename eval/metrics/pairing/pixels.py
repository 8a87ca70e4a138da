"""How far an arm's images are from the baseline's of the same label and seed, pixel by pixel, by torchmetrics."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from eval.metrics.metric import Column, Metric, Result

if TYPE_CHECKING:
    from eval.metrics.images.sets import ImagePairs

BATCH = 50  # images compared at once
SSIM_WINDOW = 11  # pixels per side; smaller images have no SSIM


def compute(pairs: ImagePairs) -> Result:
    """Compares two arms of the same seeds image by image, on pixels in [0, 1].

    Raises:
        ValueError: an image cannot be read.
    """
    import torch
    from torch.utils.data import DataLoader
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
    from torchmetrics.functional.regression import mean_absolute_error

    from sdvar.engine import tf32_allowed

    device = "cuda" if torch.cuda.is_available() else "cpu"
    has_ssim = min(pairs.shape[1:]) >= SSIM_WINDOW
    psnr, ssim, difference = [], [], []
    with torch.no_grad(), tf32_allowed(False):
        for batch in DataLoader(pairs, batch_size=BATCH):
            ours, theirs = (side.to(device).float().div(255) for side in batch)
            psnr += peak_signal_noise_ratio(ours, theirs, data_range=1.0, reduction="none", dim=(1, 2, 3)).tolist()
            difference += [float(mean_absolute_error(a, b)) for a, b in zip(ours, theirs)]
            if has_ssim:
                values = structural_similarity_index_measure(ours, theirs, data_range=1.0, reduction="none")
                ssim += values.reshape(-1).tolist()
    finite = [value for value in psnr if not math.isinf(value)]
    return {
        "identical_images": sum(value == 0 for value in difference),
        "mean_absolute_difference": math.fsum(difference) / len(difference),
        "psnr_mean": math.fsum(finite) / len(finite) if finite else None,
        **({"ssim_mean": math.fsum(ssim) / len(ssim)} if has_ssim else {}),
    }, []


PAIRS = Metric(
    name="pairs",
    title="Against the baseline's image of the same seed",
    help="PSNR, SSIM and difference to the baseline's image of the same seed",
    needs="pairs",
    compute=compute,
    columns=(
        Column.count("identical_images", "images equal to the baseline's in every pixel", title="identical"),
        Column(
            "psnr_mean",
            "dB, mean over the images that differ from the baseline's; null if none does",
            title="PSNR of differing",
            terminal=True,
            decimals=2,
            better="higher",
            nullable=True,
        ),
        Column(
            "ssim_mean",
            "mean over all images; absent for images smaller than its window of 11 pixels",
            title="SSIM",
            decimals=4,
            better="higher",
            minimum=-1,
            maximum=1,
        ),
        Column.share(
            "mean_absolute_difference",
            "mean over all images, of pixels in [0, 1]",
            title="mean difference",
            decimals=4,
            better="lower",
        ),
    ),
)
