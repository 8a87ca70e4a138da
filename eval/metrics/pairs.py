"""How far an arm's images are from the baseline's of the same label and seed, pixel by pixel."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from eval.metrics.features import full_precision
from eval.metrics.images import FileImages, UniformImages
from lightning_modules.run.folder import RunFolder

BATCH = 50  # images compared at once
SSIM_WINDOW = 11  # pixels a side


class ImagePairs(Dataset):
    """Images of two arms side by side, by index, each uint8 (3, H, W).

    Args:
        folder: of a finished run.
        arm: its name.
        other: the name of the arm to compare it with.

    Raises:
        ValueError: the arms do not hold the same indices with the same labels and seeds.
    """

    def __init__(self, folder: RunFolder, arm: str, other: str) -> None:
        rows = [{int(row["index"]): row for row in folder.manifest(name).read()} for name in (arm, other)]
        unpaired = [
            index
            for index in sorted(rows[0].keys() | rows[1].keys())
            if any(rows[0].get(index, {}).get(key) != rows[1].get(index, {}).get(key) for key in ("label", "seed"))
        ]
        if unpaired:
            raise ValueError(
                f"{folder.path}: {arm} and {other} differ in label or seed of {len(unpaired)} images (first: "
                f"{unpaired[0]}); only images of one label and seed can be compared pixel by pixel"
            )
        self.sides = []
        for name, by_index in zip((arm, other), rows):
            images = FileImages.of_rows(folder.path / name, (by_index[index] for index in sorted(by_index)))
            self.sides.append(UniformImages(images, str(folder.path / name)))

    def __len__(self) -> int:
        return len(self.sides[0])

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(side[index] for side in self.sides)

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, ...]]:
        """A batch, for the data loader."""
        return list(zip(*(side.__getitems__(indices) for side in self.sides), strict=True))


@torch.no_grad()
@full_precision()
def pair_figures(folder: RunFolder, arm: str, other: str = "baseline") -> dict[str, Any]:
    """Compares two arms of the same seeds image by image, by torchmetrics, on pixels in [0, 1].

    Returns:
        - `identical_images`: images equal in every pixel;
        - `mean_absolute_difference`: mean over all images, in [0, 1];
        - `psnr_mean`: mean over the images that differ, in dB (it is infinite for the others); None if none does;
        - `ssim_mean`: mean over all images; absent for images smaller than its window of 11 pixels.

    Raises:
        ValueError: the arms' images do not belong together or cannot be read.
    """
    from torchmetrics.functional.image import (
        peak_signal_noise_ratio,
        structural_similarity_index_measure,
    )
    from torchmetrics.functional.regression import mean_absolute_error

    device = "cuda" if torch.cuda.is_available() else "cpu"
    pairs = ImagePairs(folder, arm, other)
    has_ssim = min(pairs.sides[0].shape[1:]) >= SSIM_WINDOW
    psnr, ssim, difference = [], [], []
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
    }
