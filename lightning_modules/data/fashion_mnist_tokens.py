"""Fashion-MNIST as token maps: what the VARs are trained on."""

import hashlib
import logging
from pathlib import Path

import torch
from torch import Tensor

from lightning_modules.data.fashion_mnist import DEFAULT_ROOT, FashionMNIST, load_fashion_mnist, to_rgb
from sdvar.checkpoints import load_tokenizer
from sdvar.system.atomic import replacing

log = logging.getLogger(__name__)


class FashionMNISTTokens(FashionMNIST):
    """Batches of (labels (B,), tokens int16 (B, L), VAR inputs bfloat16 (B, L - n_0, C_vae)).

    Args:
        tokenizer: weights of the tokenizer (`.safetensors` or `.pth`).
        patch_nums: its pyramid.
        root, batch_size, held_out, limit: see `FashionMNIST`.
        cache: folder that keeps the encoded images, by the tokenizer's SHA-256; encoding takes minutes.
    """

    def __init__(
        self,
        tokenizer: Path,
        patch_nums: tuple[int, ...] = (1, 2, 3, 4, 6, 8),
        root: Path = DEFAULT_ROOT,
        batch_size: int = 64,
        held_out: int = 2000,
        limit: int | None = None,
        cache: Path = Path("runs/tokens"),
    ) -> None:
        super().__init__(root, batch_size, held_out, limit)
        if not Path(tokenizer).is_file():
            raise ValueError(f"tokenizer: no such file: {tokenizer}; train one with configs/train_tokenizer.yaml first")
        self.tokenizer, self.patch_nums, self.cache = Path(tokenizer), tuple(patch_nums), Path(cache)

    def examples(self, split: str) -> tuple[Tensor, ...]:
        """Labels, tokens and inputs of a split, encoded at the first call."""
        digest = hashlib.sha256(self.tokenizer.read_bytes()).hexdigest()[:12]
        path = self.cache / f"{split}-{self.limit or 'all'}-{digest}.pt"
        if not path.is_file():
            log.info("encoding the %s images into %s", split, path)
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as stream:
                torch.save(self.encode(split), stream)
        return tuple(torch.load(path, weights_only=True))

    @torch.inference_mode()
    def encode(self, split: str) -> tuple[Tensor, ...]:
        """Labels, tokens and inputs of all images of a split."""
        images, labels = (tensor[: self.limit] for tensor in load_fashion_mnist(split, self.root))
        tokenizer = load_tokenizer(self.tokenizer, self.patch_nums).to(memory_format=torch.channels_last)
        tokens, inputs = [], []
        for batch in images.split(500):
            maps = tokenizer.encode(to_rgb(batch))
            tokens.append(torch.cat(maps, dim=1).short())
            inputs.append(tokenizer.var_inputs(maps).bfloat16())
        return labels, torch.cat(tokens), torch.cat(inputs)
