"""The small classifier whose penultimate layer measures Fashion-MNIST images (Fréchet distance, Inception Score)."""

from torch import Tensor, nn

NUM_CLASSES = 10
FEATURE_WIDTH = 128


def conv_block(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
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
