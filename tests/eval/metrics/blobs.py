"""Images whose classes a small network tells apart, and folders of them."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import Dataset


class Images(Dataset):
    """Blobs whose position and brightness are the class, in memory; counts its reads."""

    def __init__(self, count, seed=0, classes=10, size=32, brightness=1.0):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, classes, (count,), generator=generator)
        pixels = torch.rand(count, 3, size, size, generator=generator) * 40
        for index, label in enumerate(self.labels.tolist()):
            row, column = 3 * (label // 4) + 2, 7 * (label % 4) + 2
            pixels[index, :, row : row + 8 + label, column : column + 7] += brightness * (60 + 12 * label)
        self.pixels = pixels.clamp(0, 255).to(torch.uint8)
        self.reads = 0

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        self.reads += 1
        return self.pixels[index]


def save_folder(images: Images, folder: Path) -> Path:
    """Writes PNGs in sub-folders of 100, as a run does."""
    for index, pixels in enumerate(images.pixels):
        file = folder / f"{index // 100:03d}" / f"{index:06d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file)
    return folder
