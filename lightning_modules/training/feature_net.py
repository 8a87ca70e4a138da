"""The small classifier that measures Fashion-MNIST images (Fréchet distance, Inception Score), and its training."""

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor, nn

from lightning_modules.data.fashion_mnist import to_signed
from lightning_modules.training.optimizers import each_step

NUM_CLASSES = 10
FEATURE_WIDTH = 128


def conv_block(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False), nn.BatchNorm2d(channels_out), nn.ReLU()
    )


class FeatureNet(nn.Module):
    """Convolutional classifier with 128 features, about 300,000 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_block(1, 32, stride=2),  # 16 x 16
            conv_block(32, 64),
            conv_block(64, 64),
            conv_block(64, 128, stride=2),  # 8 x 8
            conv_block(128, FEATURE_WIDTH),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(FEATURE_WIDTH, NUM_CLASSES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and class scores of images.

        Args:
            images: (B, 1, 32, 32) or (B, 3, 32, 32) in [-1, 1]; colours are averaged.

        Returns:
            features (B, 128) and logits (B, 10).
        """
        features = self.body(images.mean(1, keepdim=True))
        return features, self.head(features)


def flip_and_shift(images: Tensor, pixels: int) -> Tensor:
    """Mirror half of the images (B, C, H, W) and move each by up to `pixels` in both directions, repeating the edge."""
    batch, _, height, width = images.shape
    mirrored = torch.rand(batch, 1, 1, 1, device=images.device) < 0.5
    images = torch.where(mirrored, images.flip(-1), images)
    padded = F.pad(images, (pixels,) * 4, mode="replicate")
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, 2p + 1, 2p + 1, H, W)
    down, right = torch.randint(2 * pixels + 1, (2, batch), device=images.device)
    return windows[torch.arange(batch, device=images.device), :, down, right]


class FeatureNetTraining(LightningModule):
    """Classification of Fashion-MNIST with AdamW and one learning-rate cycle.

    Args:
        lr: highest learning rate.
        weight_decay: AdamW's.
        shift: images are moved by up to this many pixels.
    """

    def __init__(self, lr: float = 6e-3, weight_decay: float = 0.05, shift: int = 2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = FeatureNet().to(memory_format=torch.channels_last)

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = batch
        _, logits = self.net(flip_and_shift(to_signed(images), self.hparams.shift))
        loss = F.cross_entropy(logits.float(), labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        self.evaluate(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor]) -> None:
        self.evaluate(batch, "test")

    def evaluate(self, batch: tuple[Tensor, Tensor], name: str) -> None:
        """Log the loss and the share of images classified as their label."""
        images, labels = batch
        _, logits = self.net(to_signed(images))
        scores = {
            f"{name}_loss": F.cross_entropy(logits.float(), labels),
            f"{name}_accuracy": (logits.argmax(1) == labels).float().mean(),
        }
        self.log_dict(scores, batch_size=len(labels), prog_bar=True)

    def configure_optimizers(self) -> dict:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)
        total = int(self.trainer.estimated_stepping_batches)
        return each_step(optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, self.hparams.lr, total))
