"""Fashion-MNIST as images in [-1, 1], padded to 32 x 32, held in memory."""

import gzip
import logging
from pathlib import Path

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

log = logging.getLogger(__name__)

CLASS_NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
IDX_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
IDX_HEADERS = (16, 8)  # bytes before the images and before the labels
SIDE, PADDING = 28, 2
DEFAULT_ROOT = Path("/usr/share/datasets/fashion-mnist")


def load_fashion_mnist(split: str, root: Path = DEFAULT_ROOT) -> tuple[Tensor, Tensor]:
    """Read one split, from idx files in `root` if they are there, else through `datasets`.

    Args:
        split: "train" (60,000 images) or "test" (10,000 images).
        root: the folder with the four gzipped idx files.

    Returns:
        images, uint8 (N, 1, 32, 32), 28 x 28 pixels with a black border of 2; labels, int64 (N,).

    Raises:
        ValueError: for another split.
    """
    if split not in IDX_FILES:
        raise ValueError(f"split must be one of {sorted(IDX_FILES)}, got {split!r}")
    paths = [Path(root) / name for name in IDX_FILES[split]]
    if all(path.is_file() for path in paths):
        pixels, labels = (
            np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=offset)
            for path, offset in zip(paths, IDX_HEADERS, strict=True)
        )
        pixels = pixels.reshape(-1, SIDE, SIDE)
    else:
        from datasets import load_dataset

        log.info("%s has no Fashion-MNIST idx files; using the library datasets instead", root)
        table = load_dataset("zalando-datasets/fashion_mnist", split=split).with_format("numpy")
        pixels, labels = np.asarray(table["image"][:], dtype=np.uint8), np.asarray(table["label"][:])
    padded = np.pad(pixels, ((0, 0), (PADDING, PADDING), (PADDING, PADDING)))
    return torch.from_numpy(padded).unsqueeze(1), torch.from_numpy(labels.astype(np.int64))


def to_signed(images: Tensor) -> Tensor:
    """uint8 images in 0..255 as float32 in [-1, 1]."""
    return images.float().div_(127.5).sub_(1.0)


def to_rgb(images: Tensor) -> Tensor:
    """Grey uint8 images (B, 1, H, W) as the float32 (B, 3, H, W) in [-1, 1] that a tokenizer takes."""
    return to_signed(images).expand(-1, 3, -1, -1)


class BatchedTensors(Dataset):
    """Tensors of equal length that are indexed with a whole batch of indices at once."""

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, ...]:
        return tuple(tensor[indices] for tensor in self.tensors)


def as_is(batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """`BatchedTensors` already returns whole batches."""
    return batch


class FashionMNIST(LightningDataModule):
    """Batches of (images uint8 (B, 1, 32, 32), labels (B,)); the last `held_out` training images validate.

    Args:
        root: folder with the idx files (Debian: package dataset-fashion-mnist).
        batch_size: images per step.
        held_out: how many training images are kept back for validation.
        limit: use the first `limit` images of each split only; None for all.
    """

    def __init__(
        self, root: Path = DEFAULT_ROOT, batch_size: int = 64, held_out: int = 2000, limit: int | None = None
    ) -> None:
        super().__init__()
        if batch_size < 1 or held_out < 1:
            raise ValueError(f"batch_size and held_out must be at least 1, got {batch_size} and {held_out}")
        if limit is not None and limit <= held_out:
            raise ValueError(f"limit must be larger than held_out ({held_out}) or null, got {limit}")
        self.root, self.batch_size, self.held_out, self.limit = root, batch_size, held_out, limit

    def setup(self, stage: str) -> None:
        """Read the training images for "fit" and "validate", the test images for "test"."""
        if stage == "test":
            self.test_set = BatchedTensors(*self.examples("test"))
            return
        examples = self.examples("train")
        self.train_set = BatchedTensors(*(tensor[: -self.held_out] for tensor in examples))
        self.val_set = BatchedTensors(*(tensor[-self.held_out :] for tensor in examples))

    def examples(self, split: str) -> tuple[Tensor, ...]:
        """The tensors that a batch is cut from."""
        return tuple(tensor[: self.limit] for tensor in load_fashion_mnist(split, self.root))

    def train_dataloader(self) -> DataLoader:
        """Shuffled, whole batches only (compiled steps want one shape)."""
        return DataLoader(self.train_set, self.batch_size, shuffle=True, drop_last=True, collate_fn=as_is)

    def val_dataloader(self) -> DataLoader:
        """The held-out training images in order."""
        return DataLoader(self.val_set, self.batch_size, collate_fn=as_is)

    def test_dataloader(self) -> DataLoader:
        """The test images in order."""
        return DataLoader(self.test_set, self.batch_size, collate_fn=as_is)
