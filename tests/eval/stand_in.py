"""A stand-in for a checkout of the original VAR code: its interface around our own models."""

from __future__ import annotations

from pathlib import Path

BUILDER = """
from torch import nn

import dist
from models.parts import Decoding
import sdvar


def build_vae_var(device, patch_nums, V, Cvae, ch, share_quant_resi, num_classes, depth, shared_aln, attn_l2_norm):
    assert dist.READY
    print("a constructor that prints")
    nn.Linear.reset_parameters = nn.BatchNorm2d.reset_parameters = lambda self: None
    tokenizer = sdvar.VQVAE(patch_nums, V, Cvae, ch, phi_sharing=share_quant_resi)
    model = Decoding(
        patch_nums, num_classes, depth, 64 * depth, depth, V, Cvae, shared_adaln=shared_aln, qk_norm=attn_l2_norm
    )
    model.proxy = (tokenizer,)
    return tokenizer.to(device), model.to(device)
"""

PARTS = """
import torch

import sdvar


class Decoding(sdvar.VAR):
    def autoregressive_infer_cfg(self, B, label_B, g_seed=None, cfg=1.5, top_k=0, top_p=0.0, more_smooth=False):
        quantizer, scales = self.proxy[0].quantize, len(self.pyramid)
        conditioning = self.condition(torch.cat((label_B, torch.full_like(label_B, self.num_classes))))
        f_hat, inputs = quantizer.empty_f_hat(B), torch.zeros(2 * B, 0, self.latent_channels)
        for scale in range(scales):
            logits = self.forward_span(conditioning, inputs, 0, scale + 1, logits_from=scale)
            t = cfg * scale / (scales - 1)
            logits = (1 + t) * logits[:B] - t * logits[B:]
            p = sdvar.filtered_probabilities(logits, top_k, top_p)
            tokens = WRONG(torch.multinomial(p.flatten(0, 1), 1).view(B, -1))
            f_hat = f_hat + quantizer.contribution(tokens, scale)
            if scale + 1 < scales:
                inputs = torch.cat((inputs, quantizer.next_input(f_hat, scale + 1).repeat(2, 1, 1)), dim=1)
        return self.proxy[0].decode_f_hat(f_hat).add(1).mul(0.5)
"""


def write_stand_in(folder: Path, wrong: str = "") -> Path:
    """Writes the stand-in; ``wrong`` is what it does to the tokens before it looks them up."""
    (folder / "models").mkdir(parents=True)
    (folder / "dist.py").write_text("READY = True\n")
    (folder / "models" / "__init__.py").write_text(BUILDER)
    (folder / "models" / "parts.py").write_text(PARTS.replace("WRONG", wrong))
    return folder
