"""Training of the tokenizer."""

from typing import Any

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor

from lightning_modules.data.fashion_mnist import to_rgb
from lightning_modules.training.optimizers import each_step, warmup_then_cosine
from sdvar.models.tokenizer import VQVAE


class TokenizerTraining(LightningModule):
    """Reconstruction training of the VQVAE: squared and absolute error plus the quantiser's two pulls.

    For the first `codebook_start` steps nothing is quantised; then the codebook is filled with vectors of the batch.
    Until `reseed_until` of the run, codes that are hardly used are moved onto vectors of the batch.

    Args:
        lr: highest learning rate; linear warm-up, then cosine.
        l1_weight: weight of the absolute error beside the squared one.
        beta: weight of the pull of the features towards their codes.
        codebook_start: first quantised step.
        reseed_every: steps between two looks for unused codes.
        reseed_until: share of the run after which codes stay where they are.
        compile_model: compile encoder and decoder.
        **shape: arguments of `sdvar.VQVAE`.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        l1_weight: float = 0.2,
        beta: float = 0.25,
        codebook_start: int = 100,
        reseed_every: int = 100,
        reseed_until: float = 0.5,
        compile_model: bool = True,
        **shape: Any,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.tokenizer = VQVAE(**shape).to(memory_format=torch.channels_last)
        quantizer = self.tokenizer.quantize
        self.resize = [  # bicubic up-sampling of a scale as a matrix (n_k, S * S); resizing is linear
            F.interpolate(torch.eye(side * side).view(-1, 1, side, side), quantizer.side, mode="bicubic").flatten(1)
            for side in quantizer.pyramid.patch_nums
        ]

    def on_fit_start(self) -> None:
        if self.hparams.compile_model:
            self.tokenizer.encoder.compile()
            self.tokenizer.decoder.compile()
        self.reseed_end = self.hparams.reseed_until * self.trainer.estimated_stepping_batches

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        images = to_rgb(batch[0])
        quantised = features = self.tokenizer.features(images).float()
        vq_loss = features.new_zeros(())
        since_start = self.global_step - self.hparams.codebook_start
        if since_start >= 0:
            if since_start == 0:
                self.fill_codebook(features.detach())
            elif since_start % self.hparams.reseed_every == 0 and self.global_step < self.reseed_end:
                self.reseed_codes(features.detach())
            quantised, vq_loss = self.quantise(features)
        rebuilt = self.tokenizer.decoder(self.tokenizer.post_quant_conv(quantised)).float()
        squared = F.mse_loss(rebuilt, images)
        self.log_dict({"train_mse": squared, "train_vq": vq_loss})
        return squared + self.hparams.l1_weight * F.l1_loss(rebuilt, images) + vq_loss

    def quantise(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """f-hat with f's gradient (straight through), and the loss that pulls f-hat and f together at every scale."""
        quantizer = self.tokenizer.quantize
        target, residual, f_hat, loss = features.detach(), features.detach(), 0.0, 0.0
        with torch.autocast(features.device.type, enabled=False):
            for scale in range(len(quantizer.pyramid)):
                tokens = quantizer.nearest(residual, scale)
                step = self.contribution(tokens, scale)
                f_hat, residual = f_hat + step, residual - step.detach()
                loss = loss + F.mse_loss(f_hat, target) + self.hparams.beta * F.mse_loss(f_hat.detach(), features)
                share = torch.bincount(tokens.flatten(), minlength=self.tokenizer.codebook_size) / tokens.numel()
                quantizer.ema_vocab_hit_SV[scale].lerp_(share, 0.02)
        return features + (f_hat - features).detach(), loss / len(quantizer.pyramid)

    def contribution(self, tokens: Tensor, scale: int) -> Tensor:
        """The quantiser's `contribution`, with the bicubic resizing as a matrix product: its backward pass is slow."""
        quantizer = self.tokenizer.quantize
        code = quantizer.embedding(tokens).transpose(1, 2) @ self.resize[scale].to(tokens.device)  # (B, C_vae, S * S)
        phi = quantizer.quant_resi.for_scale(scale, len(quantizer.pyramid))
        return phi(code.unflatten(2, (quantizer.side, quantizer.side)))

    @torch.no_grad()
    def fill_codebook(self, features: Tensor) -> None:
        """Put vectors of a batch into the codebook, an equal part from the residual at each scale."""
        quantizer = self.tokenizer.quantize
        codebook, scales = quantizer.embedding.weight, len(quantizer.pyramid)
        residual = features
        codebook.fill_(1e3)  # out of reach until filled
        for scale, codes in enumerate(torch.arange(len(codebook)).tensor_split(scales)):
            codebook[codes] = self.residual_vectors(residual, scale, len(codes))
            residual = residual - quantizer.contribution(quantizer.nearest(residual, scale), scale)
        quantizer.ema_vocab_hit_SV.fill_(1 / len(codebook))

    @torch.no_grad()
    def reseed_codes(self, features: Tensor) -> None:
        """Move codes with less than a twentieth of their fair share of hits onto residual vectors of the batch."""
        quantizer = self.tokenizer.quantize
        weights = torch.tensor(quantizer.pyramid.tokens, device=features.device) / quantizer.pyramid.length
        share = weights @ quantizer.ema_vocab_hit_SV
        unused = (share < 0.05 / len(share)).nonzero().flatten()
        residual = features
        for scale, part in enumerate(unused[torch.randperm(len(unused))].tensor_split(len(quantizer.pyramid))):
            step = quantizer.contribution(quantizer.nearest(residual, scale), scale)
            quantizer.embedding.weight[part] = self.residual_vectors(residual, scale, len(part))
            residual = residual - step
        quantizer.ema_vocab_hit_SV[:, unused] = 1 / len(share)
        self.log("reseeded", float(len(unused)))

    def residual_vectors(self, residual: Tensor, scale: int, count: int) -> Tensor:
        """`count` randomly chosen vectors (count, C_vae) of the residual (B, C_vae, S, S) at a scale."""
        vectors = self.tokenizer.quantize.next_input(residual, scale).flatten(0, 1)
        return vectors[torch.randint(len(vectors), (count,))]

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        self.evaluate(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor]) -> None:
        self.evaluate(batch, "test")

    def evaluate(self, batch: tuple[Tensor, Tensor], name: str) -> None:
        """Log the squared error of the pixels in [0, 1] and the mean of the images' PSNR."""
        images = to_rgb(batch[0])
        rebuilt = self.tokenizer.decode(self.tokenizer.encode(images))
        errors = (rebuilt.float() - images).div(2).square().mean((1, 2, 3))
        psnr = -10 * errors.log10()
        scores = {f"{name}_mse": errors.mean(), f"{name}_psnr": psnr.mean()}
        self.log_dict(scores, batch_size=len(images), prog_bar=True)

    def configure_optimizers(self) -> dict:
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.hparams.lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True
        )
        total = int(self.trainer.estimated_stepping_batches)
        return each_step(optimizer, lambda step: warmup_then_cosine(step, 100, total))
